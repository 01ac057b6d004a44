package mariatest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// Server is a MariaDB server. Its methods are safe for concurrent use.
type Server struct {
	bin     binaries
	dir     string // holds the data directory, the configuration and the log
	port    int
	primary *Server // that it follows, or nil

	databases atomic.Int64

	mu   sync.Mutex
	proc *child.Process // nil while the server is down
}

// Start starts a server that belongs to this test: it is stopped, and its data
// removed, when the test ends. Start blocks until the server accepts
// connections. Settings are lines of my.cnf, such as
// "innodb_rollback_on_timeout = ON", and win over the package's own.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return startFrom(t, nil, settings)
}

func startFrom(t testing.TB, primary *Server, settings []string) *Server {
	t.Helper()
	s, err := newServer(primary, settings)
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

// servers counts the servers of the test binary: replication takes numbers.
var servers atomic.Int64

// newServer starts a server.
func newServer(primary *Server, settings []string) (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	child.RemoveAbandoned(directoryPrefix, nil)
	owner, err := findOwner()
	if err != nil {
		return nil, fmt.Errorf("mariatest: %w", err)
	}
	dir, err := child.MakeDirectory(directoryPrefix, owner)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, primary: primary}
	if err := s.initialize(servers.Add(1), settings); err != nil {
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
		if attempt == 5 || !strings.Contains(s.tail(0), "Bind on TCP/IP port") {
			return nil, errors.Join(err, s.remove())
		}
	}
}

// Port is the TCP port on 127.0.0.1. It stays the same across restarts.
func (s *Server) Port() int { return s.port }

// DSN is the data source name of a database, for go-sql-driver/mysql. The user
// has no password and may do everything in databases whose name begins with
// "test"; it is no administrator, so a server that is read_only refuses what it
// writes. The database "" always exists: it is none.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("%s@tcp(127.0.0.1:%d)/%s", appUser, s.port, database)
}

// Stop shuts the server down in order: clients are disconnected and their open
// transactions rolled back. It blocks until the process is gone. The data stays,
// so [Server.Restart] can follow. On a server that is down it does nothing. It
// panics when the process refuses to end.
func (s *Server) Stop() {
	if err := s.end(syscall.SIGTERM); err != nil {
		panic(err)
	}
}

// Kill ends the server as kill -9 does, and blocks until the process is reaped.
// Clients see their connections break. [Server.Restart] then goes through crash
// recovery. On a server that is down it does nothing. It panics when the
// process refuses to end.
func (s *Server) Kill() {
	if err := s.end(syscall.SIGKILL); err != nil {
		panic(err)
	}
}

// Restart starts the server again on the same port and data, after a [Server.Stop]
// if it still runs. It blocks until the server accepts connections. A replica
// goes on where it was.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// start runs mariadbd and waits until it accepts connections.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, err := findOwner()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor

	cmd := exec.Command(s.bin.server, "--defaults-file="+s.configFile(), "--port="+strconv.Itoa(s.port))
	cmd.Dir = s.dir
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = log, log
	before := child.Size(s.logFile())
	proc, err := child.Start(cmd, owner)
	if err != nil {
		return fmt.Errorf("mariatest: starting mariadbd: %w", err)
	}
	ready := func() bool { return strings.Contains(s.tail(before), "ready for connections") }
	if err := proc.Ready(ready, startTimeout, s.data()); err != nil {
		return fmt.Errorf("mariatest: %w; its log:\n%s", err, s.tail(before))
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
	err := s.proc.End(sig, s.data())
	s.proc = nil
	return err
}

// remove stops the server at once and deletes everything it stored.
func (s *Server) remove() error {
	return errors.Join(s.end(syscall.SIGKILL), os.RemoveAll(s.dir))
}

// showLog logs the end of the server's log, not further back than the offset,
// if the test has failed.
func (s *Server) showLog(t testing.TB, offset int64) {
	t.Helper()
	if t.Failed() {
		t.Logf("end of the MariaDB log:\n%s", s.tail(offset))
	}
}

func (s *Server) tail(offset int64) string { return child.Tail(s.logFile(), offset) }

func (s *Server) data() string       { return filepath.Join(s.dir, "data") }
func (s *Server) configFile() string { return filepath.Join(s.dir, "my.cnf") }
func (s *Server) logFile() string    { return filepath.Join(s.dir, "server.log") }
