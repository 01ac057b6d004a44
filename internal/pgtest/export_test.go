package pgtest

// NewServer starts a server that only the death of the process stops.
func NewServer() (*Server, error) { return newServer(nil) }

// TryQuery is Query for statements that may fail.
func (s *Server) TryQuery(dsn, statements string) error {
	_, err := s.psql(dsn, statements)
	return err
}

// RemoveAbandoned is what every start does first.
func RemoveAbandoned() { kind.RemoveAbandoned() }
