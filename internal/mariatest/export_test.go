package mariatest

// NewServer starts a server that only the death of the process stops.
func NewServer(settings ...string) (*Server, error) { return newServer(nil, settings) }

// TryQuery is Query for statements that may fail.
func (s *Server) TryQuery(database, statements string) error {
	_, err := s.client.Query(database, statements)
	return err
}

// RemoveAbandoned is what every start does first.
func RemoveAbandoned() { kind.RemoveAbandoned() }

// FindAll is what every start does first, each time anew. The programs are the
// server, the one that installs, and the client.
func FindAll() ([3]string, error) {
	b, err := find()
	return [3]string{b.server, b.install, b.client}, err
}
