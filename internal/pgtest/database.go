package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// queryTimeout bounds a statement, such as one that waits for a lock.
const queryTimeout = 30 * time.Second

// CreateDatabase creates an empty database with a new name and returns its
// connection URL. It is dropped when the test ends, together with the
// connections that are still open to it.
func (s *Server) CreateDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	admin := s.DSN("postgres")
	// Nobody connects to template0, so copying it never has to wait or fail.
	if _, err := s.psql(admin, "create database "+name+" template template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.running() { // nothing to connect to, and nothing that needs room
			return
		}
		if _, err := s.psql(admin, "drop database if exists "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	return s.DSN(name)
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
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "psql"),
		"--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
		"--set=ON_ERROR_STOP=1", "--dbname="+dsn, "--command="+statements)
	// A test may let synchronous commits hang; these must not.
	cmd.Env = environment("PGCONNECT_TIMEOUT=10", "PGOPTIONS=-c synchronous_commit=local")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("pgtest: %s: %w\n%s", statements, err, stderr.Bytes())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}
