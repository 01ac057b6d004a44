package pgtest

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

var kind = &child.Kind{
	Package: "pgtest",
	Name:    "PostgreSQL",
	User:    "postgres",
	Foreign: []string{"PG"},
	Stop:    syscall.SIGINT,
	Discard: syscall.SIGQUIT,
	Clean:   func(dir string) { RemoveSharedMemory(filepath.Join(dir, "data", "postmaster.pid")) },
}

// Server is a PostgreSQL server. Its methods are safe for concurrent use.
type Server struct {
	*child.Server
	bin string // directory of PostgreSQL's programs
}

// Start starts a server that belongs to this test: it is stopped, and its data
// removed, when the test ends. Start blocks until the server accepts
// connections. Settings are lines of postgresql.conf, such as
// "wal_level = logical", and win over the package's own.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return child.ForTest(t, func() (*Server, error) { return newServer(settings) })
}

// StartFor starts a server for a program that is no test, and that ends it with
// [child.Server.Remove]. Otherwise it is as [Start].
func StartFor(settings ...string) (*Server, error) { return newServer(settings) }

// Standby starts a hot standby that follows the server, with the server's
// settings and, after them, those given. It is otherwise as [Start].
func (s *Server) Standby(t testing.TB, settings ...string) *Server {
	t.Helper()
	return child.ForTest(t, func() (*Server, error) {
		return newServerFrom(func(standby *Server) error { return standby.follow(s, settings) })
	})
}

var shared = child.Shared[*Server]{
	Package: "pgtest",
	Start:   func() (*Server, error) { return newServer(nil) },
}

// Main wraps the tests of a package: when they are done, the server that they
// share stops. What Run returns is the exit code. Nothing is left running then,
// so a check for leaked goroutines can wrap it in turn:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }
func Main(m child.Runner) child.Runner { return shared.Main(m) }

// Shared returns the server that all tests of the package use, each with a
// database of its own. It starts with the first call and stops after the last
// test, which takes a TestMain that calls [Main]. A test that stops or kills its
// server uses [Start] instead.
func Shared(t testing.TB) *Server {
	t.Helper()
	return shared.Server(t)
}

func newServer(settings []string) (*Server, error) {
	return newServerFrom(func(s *Server) error { return s.initialize(settings) })
}

// newServerFrom starts a server whose data directory initialize creates.
func newServerFrom(initialize func(*Server) error) (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.Server, err = kind.NewServer(); err != nil {
		return nil, err
	}
	return s, s.Launch(func() error { return initialize(s) }, s.command, s.ready)
}

func (s *Server) command() (*exec.Cmd, error) {
	return exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.Port())), nil
}

// ready reads the state that the server publishes for pg_ctl.
func (s *Server) ready(pid int, _ string) bool {
	content, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
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

// DSN is the connection URL of a database, for user postgres without a
// password. The database "postgres" always exists.
func (s *Server) DSN(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Host:     "127.0.0.1:" + strconv.Itoa(s.Port()),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// StopAtOnce shuts the server down without order, as "pg_ctl stop -m immediate"
// does: each session ends with the server's word that it does, and
// [Server.Restart] goes through crash recovery. Otherwise it is as [Server.Stop].
func (s *Server) StopAtOnce() { s.End(syscall.SIGQUIT) }

func (s *Server) data() string { return filepath.Join(s.Dir(), "data") }
