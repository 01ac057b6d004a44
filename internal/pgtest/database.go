package pgtest

import (
	"path/filepath"
	"testing"
)

// CreateDatabase creates an empty database with a new name and returns its
// connection URL. It is dropped when the test ends, together with the
// connections that are still open to it.
func (s *Server) CreateDatabase(t testing.TB) string {
	t.Helper()
	return s.DSN(s.NewDatabase(t, s.create, s.drop))
}

func (s *Server) create(name string) error {
	// Nobody connects to template0, so copying it never has to wait or fail.
	_, err := s.psql(s.DSN("postgres"), "create database "+name+" template template0")
	return err
}

func (s *Server) drop(name string) error {
	_, err := s.psql(s.DSN("postgres"), "drop database if exists "+name+" with (force)")
	return err
}

// Query runs statements through psql, apart from any driver under test, and
// returns their rows, one a line with the columns separated by "|". It fails the
// test when a statement fails.
func (s *Server) Query(t testing.TB, dsn, statements string) string {
	t.Helper()
	out, err := s.psql(dsn, statements)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *Server) psql(dsn, statements string) (string, error) { return psql(s.bin, dsn, statements) }

func psql(bin, dsn, statements string) (string, error) {
	// A test may let synchronous commits hang; these must not.
	env := Environment("PGCONNECT_TIMEOUT=10", "PGOPTIONS=-c synchronous_commit=local")
	return kind.Query(statements, env, filepath.Join(bin, "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
		"--set=ON_ERROR_STOP=1", "--dbname="+dsn, "--command="+statements)
}
