// Package pgpool starts pgpool-II in front of a server of package pgtest, for
// tests of what a proxy makes of the protocol.
package pgpool

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// configuration passes everything on to one server; the verbs are the port,
// pcp's, the directory (three times) and the server's port.
const configuration = `
backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = %d
pcp_listen_addresses = ''
pcp_port = %d
unix_socket_directories = '%[3]s'
pcp_socket_dir = '%[3]s'
pid_file_name = '%[3]s/pgpool.pid'
backend_hostname0 = '127.0.0.1'
backend_port0 = %[4]d
backend_flag0 = 'DISALLOW_TO_FAILOVER'
num_init_children = 4
load_balance_mode = off
enable_pool_hba = off
sr_check_user = 'postgres'
sr_check_period = 0
health_check_period = 0
use_watchdog = off
`

var kind = &child.Kind{
	Package: "pgpool",
	Name:    "pgpool-II",
	User:    "postgres",
	Foreign: []string{"PG"},
	Stop:    syscall.SIGTERM,
	Discard: syscall.SIGTERM,
}

// Start starts a pgpool-II that belongs to this test: it ends when the test
// does. Start blocks until it accepts connections. It returns a function that
// changes a connection URL of the server to lead through it.
func Start(t testing.TB, server *pgtest.Server) (through func(dsn string) string) {
	t.Helper()
	pool := child.ForTest(t, func() (*child.Server, error) {
		program, err := Find()
		if err != nil {
			return nil, err
		}
		s, err := kind.NewServer()
		if err != nil {
			return nil, err
		}
		command := func() (*exec.Cmd, error) {
			pcp, err := child.FreePort()
			file, none := filepath.Join(s.Dir(), "pgpool.conf"), filepath.Join(s.Dir(), "none")
			text := fmt.Sprintf(configuration, s.Port(), pcp, s.Dir(), server.Port())
			return exec.Command(program, "-n", "-f", file, "-F", none, "-a", none),
				errors.Join(err, os.WriteFile(file, []byte(text), 0o644))
		}
		ready := func(_ int, log string) bool { return strings.Contains(log, "successfully started") }
		return s, s.Launch(nil, command, ready)
	})
	return func(dsn string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = "127.0.0.1:" + strconv.Itoa(pool.Port())
		return u.String()
	}
}

// Find returns the pgpool-II that tests run, the one that DBSCOPE_PGPOOL names
// where that is set.
func Find() (string, error) {
	path, err := child.Program(&child.MissingError{Name: "pgpool-II", Key: "pgpool2", Variable: "DBSCOPE_PGPOOL"},
		"pgpool", "/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin")
	if err != nil {
		return "", fmt.Errorf("pgpool: %w", err)
	}
	return path, nil
}
