package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const startTimeout = 60 * time.Second // crash recovery on a busy machine included

// Server is a server with a directory and a port of its own. Its methods are
// safe for concurrent use.
type Server struct {
	kind    *Kind
	command func() (*exec.Cmd, error)
	ready   func(pid int, log string) bool
	dir     string // holds all that the server stores, and its log
	port    int

	databases atomic.Int64

	mu   sync.Mutex
	proc *Process // nil while the server is down
}

// NewServer makes a server that has an empty directory, and removes those of
// servers that were abandoned. [Server.Launch] starts it.
func (k *Kind) NewServer() (*Server, error) {
	k.RemoveAbandoned()
	owner, err := k.Owner()
	if err != nil {
		return nil, err
	}
	dir, err := MakeDirectory(k.prefix(), owner)
	if err != nil {
		return nil, err
	}
	return &Server{kind: k, dir: dir}, nil
}

// Launch starts the server for the first time, and removes it where that fails.
// It blocks until the server is ready. prepare fills the directory, and may be nil.
// command returns what runs the server on its port; its output is the log.
// Restarts call it again, and Launch does with another port when somebody takes
// the first. ready is asked now and then, with the end of what this start has logged.
func (s *Server) Launch(prepare func() error, command func() (*exec.Cmd, error), ready func(pid int, log string) bool) error {
	s.command, s.ready = command, ready
	if prepare != nil {
		if err := prepare(); err != nil {
			return errors.Join(err, s.remove())
		}
	}
	// Between the choice of a port and the server's bind another process may
	// take it; the server then exits at once.
	for attempt := 1; ; attempt++ {
		var err error
		if s.port, err = FreePort(); err == nil {
			err = s.start()
		}
		if err == nil {
			return nil
		}
		if attempt == 5 || !strings.Contains(strings.ToLower(Tail(s.logFile(), 0)), "address already in use") {
			return errors.Join(err, s.remove())
		}
	}
}

// Dir is where the server keeps everything.
func (s *Server) Dir() string { return s.dir }

// Port is the TCP port on 127.0.0.1. It stays the same across restarts.
func (s *Server) Port() int { return s.port }

// Stop shuts the server down in order: clients are disconnected and their open
// transactions rolled back. It blocks until no process is left. The data stays,
// so [Server.Restart] can follow. On a server that is down it does nothing. It
// panics when processes refuse to end.
func (s *Server) Stop() { s.End(s.kind.Stop) }

// Kill ends the server as kill -9 does, and blocks until the main process is
// reaped and its children are gone. Clients see their connections break.
// [Server.Restart] then goes through crash recovery. On a server that is down
// it does nothing. It panics when processes refuse to end.
func (s *Server) Kill() { s.End(syscall.SIGKILL) }

// End ends the server by a signal. Otherwise it is as [Server.Stop].
func (s *Server) End(sig syscall.Signal) {
	if err := s.end(sig); err != nil {
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

// NewDatabase returns a name for a database, with which it calls create now and
// drop when the test ends.
func (s *Server) NewDatabase(t testing.TB, create, drop func(name string) error) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	if err := create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.running() { // nothing to connect to, and nothing that needs room
			return
		}
		if err := drop(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// start runs the program and waits until it is ready.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, err := s.kind.Owner()
	if err != nil {
		return err
	}
	cmd, err := s.command()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor

	cmd.Dir = s.dir
	cmd.Env = s.kind.Environment()
	cmd.Stdout, cmd.Stderr = log, log
	before := Size(s.logFile())
	proc, err := Start(cmd, owner)
	if err != nil {
		return fmt.Errorf("%s: starting %s: %w", s.kind.Package, cmd.Path, err)
	}
	ready := func() bool { return s.ready(proc.PID(), Tail(s.logFile(), before)) }
	if err := proc.Ready(ready, startTimeout, s.dir); err != nil {
		return fmt.Errorf("%s: %w; its log:\n%s", s.kind.Package, err, Tail(s.logFile(), before))
	}
	s.proc = proc
	return nil
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
	err := s.proc.End(sig, s.dir)
	s.proc = nil
	return err
}

// Remove stops the server at once and deletes everything it stored. It is for servers
// that belong to no test.
func (s *Server) Remove() error { return s.remove() }

// remove stops the server at once and deletes everything it stored.
func (s *Server) remove() error {
	err := s.end(s.kind.Discard)
	if s.kind.Clean != nil {
		s.kind.Clean(s.dir)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// logged is the length of the log.
func (s *Server) logged() int64 { return Size(s.logFile()) }

// showLog shows the end of the log, not further back than the offset, if the
// test fails.
func (s *Server) showLog(t testing.TB, offset int64) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the %s log:\n%s", s.kind.Name, Tail(s.logFile(), offset))
		}
	})
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "server.log") }
