package mariatest

import "testing"

// CreateDatabase creates an empty database with a new name and returns its data
// source name, as [Server.DSN] does. It is dropped when the test ends, together
// with the connections that are still open to it.
func (s *Server) CreateDatabase(t testing.TB) string {
	t.Helper()
	return s.DSN(s.NewDatabase(t, s.client.Create, s.client.Drop))
}

// Query runs statements as the administrator through MariaDB's own client,
// apart from any driver under test, and returns their rows, one a line with the
// columns separated by "|". The database may be "". It fails the test when a
// statement fails.
func (s *Server) Query(t testing.TB, database, statements string) string {
	t.Helper()
	out, err := s.client.Query(database, statements)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
