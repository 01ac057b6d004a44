package mariatest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/mysqlclient"
)

var kind = &child.Kind{
	Package: "mariatest",
	Name:    "MariaDB",
	User:    "mysql",
	Foreign: []string{"MYSQL_", "MARIADB_"},
	Stop:    syscall.SIGTERM,
	Discard: syscall.SIGKILL,
}

// Server is a MariaDB server. Its methods are safe for concurrent use.
type Server struct {
	*child.Server
	bin     binaries
	client  mysqlclient.Client
	primary *Server // that it follows, or nil
}

// Start starts a server that belongs to this test: it is stopped, and its data
// removed, when the test ends. Start blocks until the server accepts
// connections. Settings are lines of my.cnf, such as
// "innodb_rollback_on_timeout = ON", and win over the package's own.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return child.ForTest(t, func() (*Server, error) { return newServer(nil, settings) })
}

// StartFor starts a server for a program that is no test, and that ends it with
// [child.Server.Remove]. Otherwise it is as [Start].
func StartFor(settings ...string) (*Server, error) { return newServer(nil, settings) }

// Execute runs statements as [Server.Query] does, and returns the error.
func (s *Server) Execute(database, statements string) (string, error) {
	return s.client.Query(database, statements)
}

var shared = child.Shared[*Server]{
	Package: "mariatest",
	Start:   func() (*Server, error) { return newServer(nil, nil) },
}

// Main wraps the tests of a package: when they are done, the server that they
// share stops. What Run returns is the exit code. Nothing is left running then,
// so a check for leaked goroutines can wrap it in turn:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(mariatest.Main(m)) }
func Main(m child.Runner) child.Runner { return shared.Main(m) }

// Shared returns the server that all tests of the package use, each with a
// database of its own. It starts with the first call and stops after the last
// test, which takes a TestMain that calls [Main]. A test that stops or kills its
// server uses [Start] instead.
func Shared(t testing.TB) *Server {
	t.Helper()
	return shared.Server(t)
}

// servers counts the servers of the test binary: replication takes numbers.
var servers atomic.Int64

// newServer starts a server.
func newServer(primary *Server, settings []string) (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	return bin.start(primary, settings)
}

func (b binaries) start(primary *Server, settings []string) (s *Server, err error) {
	s = &Server{bin: b, primary: primary}
	if s.Server, err = kind.NewServer(); err != nil {
		return nil, err
	}
	s.client = mysqlclient.Client{Kind: kind, Server: s.Server, Program: b.client}
	prepare := func() error { return s.initialize(servers.Add(1), settings) }
	ready := func(_ int, log string) bool { return strings.Contains(log, "ready for connections") }
	return s, s.Launch(prepare, s.command, ready)
}

func (s *Server) command() (*exec.Cmd, error) {
	// It finds the programs that it runs itself, such as Galera's, beside its own.
	path := "PATH=" + strings.Join([]string{filepath.Dir(s.bin.client), os.Getenv("PATH")}, string(os.PathListSeparator))
	return exec.Command("env", path, s.bin.server, "--defaults-file="+s.configFile(), "--port="+strconv.Itoa(s.Port())), nil
}

// DSN is the data source name of a database, for go-sql-driver/mysql. The user
// has no password and may do everything in databases whose name begins with
// "test"; it is no administrator, so a server that is read_only refuses what it
// writes. The database "" always exists: it is none.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("%s@tcp(127.0.0.1:%d)/%s", appUser, s.Port(), database)
}

func (s *Server) data() string       { return filepath.Join(s.Dir(), "data") }
func (s *Server) configFile() string { return filepath.Join(s.Dir(), "my.cnf") }
