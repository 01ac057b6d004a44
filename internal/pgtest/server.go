package pgtest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/child"
)

const startTimeout = 60 * time.Second // crash recovery on a busy machine included

// Server is a PostgreSQL server. Its methods are safe for concurrent use.
type Server struct {
	bin  string // directory of PostgreSQL's programs
	dir  string // holds the data directory and the log
	port int

	databases atomic.Int64

	mu   sync.Mutex
	proc *child.Process // nil while the server is down
}

// Start starts a server that belongs to this test: it is stopped, and its data
// removed, when the test ends. Start blocks until the server accepts
// connections. Settings are lines of postgresql.conf, such as
// "wal_level = logical", and win over the package's own.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return startFrom(t, func(s *Server) error { return s.initialize(settings) })
}

// Standby starts a hot standby that follows the server, with the server's
// settings and, after them, those given. It is otherwise as [Start].
func (s *Server) Standby(t testing.TB, settings ...string) *Server {
	t.Helper()
	return startFrom(t, func(standby *Server) error { return standby.follow(s, settings) })
}

func startFrom(t testing.TB, initialize func(*Server) error) *Server {
	t.Helper()
	s, err := newServer(initialize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.showLog(t, 0)
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newServer starts a server whose data directory initialize creates.
func newServer(initialize func(*Server) error) (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	removeAbandoned()
	owner, err := findOwner()
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	dir, err := child.MakeDirectory(directoryPrefix, owner)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir}
	if err := initialize(s); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	// Between the choice of a port and the server's bind another process may
	// take it; the server then exits at once.
	for attempt := 1; ; attempt++ {
		if s.port, err = child.FreePort(); err == nil {
			err = s.start()
		}
		if err == nil {
			return s, nil
		}
		if attempt == 5 || !strings.Contains(s.tail(0), "could not bind") {
			return nil, errors.Join(err, s.remove())
		}
	}
}

// Port is the TCP port on 127.0.0.1. It stays the same across restarts.
func (s *Server) Port() int { return s.port }

// DSN is the connection URL of a database, for user postgres without a
// password. The database "postgres" always exists.
func (s *Server) DSN(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Host:     "127.0.0.1:" + strconv.Itoa(s.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Stop shuts the server down in order: clients are disconnected and their open
// transactions rolled back. It blocks until no process is left. The data stays,
// so [Server.Restart] can follow. On a server that is down it does nothing. It
// panics when processes refuse to end.
func (s *Server) Stop() {
	if err := s.end(syscall.SIGINT); err != nil {
		panic(err)
	}
}

// StopAtOnce shuts the server down without order, as "pg_ctl stop -m immediate"
// does: each session ends with the server's word that it does, and
// [Server.Restart] goes through crash recovery. Otherwise it is as [Server.Stop].
func (s *Server) StopAtOnce() {
	if err := s.end(syscall.SIGQUIT); err != nil {
		panic(err)
	}
}

// Kill ends the server as kill -9 does, and blocks until the main process is
// reaped and its children are gone. Clients see their connections break.
// [Server.Restart] then goes through crash recovery. On a server that is down
// it does nothing. It panics when processes refuse to end.
func (s *Server) Kill() {
	if err := s.end(syscall.SIGKILL); err != nil {
		panic(err)
	}
}

// Restart starts the server again on the same port and data, after a [Server.Stop]
// if it still runs. It blocks until the server accepts connections.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// start runs postgres and waits until it accepts connections.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor

	owner, err := findOwner()
	if err != nil {
		return err
	}
	cmd := s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port))
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := child.Start(cmd, owner)
	if err != nil {
		return fmt.Errorf("pgtest: starting postgres: %w", err)
	}
	if err := proc.Ready(func() bool { return s.ready(proc.PID()) }, startTimeout, s.data()); err != nil {
		return fmt.Errorf("pgtest: %w; its log:\n%s", err, s.tail(0))
	}
	s.proc = proc
	return nil
}

// ready reads the state that the server publishes for pg_ctl.
func (s *Server) ready(pid int) bool {
	content, err := os.ReadFile(s.pidFile())
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(pid) { // a killed server leaves its file
		return false
	}
	state := strings.TrimSpace(lines[7])
	return state == "ready" || state == "standby"
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil
}

func (s *Server) end(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	err := s.proc.End(sig, s.data())
	s.proc = nil
	return err
}

// remove stops the server at once and deletes everything it stored.
func (s *Server) remove() error {
	err := s.end(syscall.SIGQUIT)
	removeSharedMemory(s.pidFile())
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) pidFile() string { return filepath.Join(s.data(), "postmaster.pid") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "server.log") }
