package mariatest

import (
	"strconv"
	"strings"
	"testing"
)

// CreateDatabase creates an empty database with a new name and returns its data
// source name, as [Server.DSN] does. It is dropped when the test ends, together
// with the connections that are still open to it.
func (s *Server) CreateDatabase(t testing.TB) string {
	t.Helper()
	return s.DSN(s.NewDatabase(t, s.create, s.drop))
}

func (s *Server) create(name string) error {
	_, err := s.client("", "CREATE DATABASE "+name)
	return err
}

// drop drops a database. A transaction that is open on it would be waited for.
func (s *Server) drop(name string) error {
	ids, err := s.client("", "SELECT id FROM information_schema.processlist WHERE db = '"+name+"'")
	if err != nil {
		return err
	}
	for id := range strings.FieldsSeq(ids) {
		_, _ = s.client("", "KILL "+id) // fails where it has gone by itself
	}
	_, err = s.client("", "DROP DATABASE IF EXISTS "+name)
	return err
}

// Query runs statements as the administrator through MariaDB's own client,
// apart from any driver under test, and returns their rows, one a line with the
// columns separated by "|". The database may be "". It fails the test when a
// statement fails.
func (s *Server) Query(t testing.TB, database, statements string) string {
	t.Helper()
	out, err := s.client(database, statements)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *Server) client(database, statements string) (string, error) {
	out, err := kind.Query(statements, kind.Environment(), s.bin.client, "--no-defaults", "--protocol=tcp", "--host=127.0.0.1",
		"--port="+strconv.Itoa(s.Port()), "--user=root", "--connect-timeout=10",
		"--batch", "--skip-column-names", "--execute="+statements, database)
	return strings.ReplaceAll(out, "\t", "|"), err
}
