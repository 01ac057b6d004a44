package pgtest

// NewServer starts a server that only the death of the process stops.
func NewServer() (*Server, error) {
	return newServer(func(s *Server) error { return s.initialize(nil) })
}

// TryQuery is Query for statements that may fail.
func (s *Server) TryQuery(dsn, statements string) error {
	_, err := s.psql(dsn, statements)
	return err
}

// Dir is where the server keeps everything.
func (s *Server) Dir() string { return s.dir }

// RemoveAbandoned is what every start does first.
func RemoveAbandoned() { removeAbandoned() }
