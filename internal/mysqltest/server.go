package mysqltest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/mysqlclient"
)

var kind = &child.Kind{
	Package: "mysqltest",
	Name:    "MySQL",
	User:    "mysql",
	Foreign: []string{"MYSQL_"},
	Stop:    syscall.SIGTERM,
	Discard: syscall.SIGKILL,
}

// Server is a MySQL server. Its methods are safe for concurrent use.
type Server struct {
	*child.Server
	bin    binaries
	client mysqlclient.Client
}

// Start starts a server that belongs to this test: it is stopped, and its data
// removed, when the test ends. Start blocks until the server accepts
// connections. Settings are lines of my.cnf and win over the package's own.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	Have(t)
	return child.ForTest(t, func() (*Server, error) { return newServer(settings) })
}

var shared = child.Shared[*Server]{
	Package: "mysqltest",
	Start:   func() (*Server, error) { return newServer(nil) },
}

// Main wraps the tests of a package: when they are done, the server that they
// share stops. What Run returns is the exit code.
func Main(m child.Runner) child.Runner { return shared.Main(m) }

// Shared returns the server that all tests of the package use, each with a
// database of its own. It starts with the first call and stops after the last
// test, which takes a TestMain that calls [Main].
func Shared(t testing.TB) *Server {
	t.Helper()
	Have(t)
	return shared.Server(t)
}

func newServer(settings []string) (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.Server, err = kind.NewServer(); err != nil {
		return nil, err
	}
	s.client = mysqlclient.Client{Kind: kind, Server: s.Server, Program: bin.client}
	prepare := func() error { return s.initialize(settings) }
	ready := func(_ int, log string) bool { return strings.Contains(log, "ready for connections") }
	return s, s.Launch(prepare, s.command, ready)
}

func (s *Server) command() (*exec.Cmd, error) {
	return exec.Command(s.bin.server, "--defaults-file="+s.configFile(), "--port="+strconv.Itoa(s.Port())), nil
}

// CreateDatabase creates an empty database with a new name and returns its data
// source name, as [Server.DSN] does. It is dropped when the test ends, together
// with the connections that are still open to it.
func (s *Server) CreateDatabase(t testing.TB) string {
	t.Helper()
	return s.DSN(s.NewDatabase(t, s.client.Create, s.client.Drop))
}

// Query runs statements as the administrator through MySQL's own client, apart from
// any driver under test, and returns their rows, one a line with the columns
// separated by "|". The database may be "". It fails the test when a statement fails.
func (s *Server) Query(t testing.TB, database, statements string) string {
	t.Helper()
	out, err := s.client.Query(database, statements)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// DSN is the data source name of a database, for go-sql-driver/mysql. The user
// has no password and may do everything in databases whose name begins with
// "test"; it is no administrator. The database "" always exists: it is none.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("%s@tcp(127.0.0.1:%d)/%s", appUser, s.Port(), database)
}

func (s *Server) data() string       { return filepath.Join(s.Dir(), "data") }
func (s *Server) configFile() string { return filepath.Join(s.Dir(), "my.cnf") }
