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

// Start starts a pgpool-II that belongs to this test: it ends when the test
// does. Start blocks until it accepts connections. It returns a function that
// changes a connection URL of the server to lead through it.
func Start(t testing.TB, server *pgtest.Server) (through func(dsn string) string) {
	t.Helper()
	program, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	port := server.RunBeside(t, pgtest.Program{
		Path:  program,
		Ready: "successfully started",
		Configure: func(dir string, port int) ([]string, error) {
			pcp, err := child.FreePort()
			file := filepath.Join(dir, "pgpool.conf")
			text := fmt.Sprintf(configuration, port, pcp, dir, server.Port())
			return []string{"-n", "-f", file, "-F", filepath.Join(dir, "none"), "-a", filepath.Join(dir, "none")},
				errors.Join(err, os.WriteFile(file, []byte(text), 0o600))
		},
	})
	return func(dsn string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = "127.0.0.1:" + strconv.Itoa(port)
		return u.String()
	}
}

// Find returns the pgpool-II that tests run.
func Find() (string, error) {
	path, err := child.Program(variable, "pgpool", "/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin")
	if errors.Is(err, exec.ErrNotFound) {
		err = &child.MissingError{Name: "pgpool-II", Key: "pgpool2", Variable: variable}
	}
	if err != nil {
		return "", fmt.Errorf("pgpool: %w", err)
	}
	return path, nil
}

// variable chooses a pgpool-II.
const variable = "DBSCOPE_PGPOOL"
