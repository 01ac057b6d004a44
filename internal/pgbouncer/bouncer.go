package pgbouncer

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

// configuration is of every bouncer; the verbs are the server's port and the
// bouncer's.
const configuration = `
[databases]
* = host=127.0.0.1 port=%d

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = userlist.txt
admin_users = postgres

pool_mode = transaction
; few enough that clients have to share
default_pool_size = 4
max_client_conn = 400
; a test that needs more connections fails in time
query_wait_timeout = 30
; a server that was restarted is found at once
server_login_retry = 0.2
; what psql and lib/pq send, and a shared connection cannot keep
ignore_startup_parameters = extra_float_digits, options
`

// userlist names who may log in: the user of pgtest's DSNs.
const userlist = `"postgres" ""` + "\n"

var kind = &child.Kind{
	Package: "pgbouncer",
	Name:    "PgBouncer",
	User:    "postgres",
	Foreign: []string{"PG"},
	Stop:    syscall.SIGTERM,
	Discard: syscall.SIGTERM,
}

// Bouncer is a PgBouncer in front of a server. Its methods are safe for
// concurrent use.
type Bouncer struct{ *child.Server }

// Start starts a PgBouncer that belongs to this test: it ends when the test
// does. Start blocks until it accepts connections; the server may be restarted
// meanwhile and later. Settings are lines of the [pgbouncer] section, such as
// "default_pool_size = 1", and win over the package's own.
func Start(t testing.TB, server *pgtest.Server, settings ...string) *Bouncer {
	t.Helper()
	return child.ForTest(t, func() (*Bouncer, error) {
		program, err := Find()
		if err != nil {
			return nil, err
		}
		b := &Bouncer{}
		if b.Server, err = kind.NewServer(); err != nil {
			return nil, err
		}
		command := func() (*exec.Cmd, error) {
			ini := fmt.Sprintf(configuration, server.Port(), b.Port()) +
				strings.Join(settings, "\n") + "\n" // the last one wins
			return exec.Command(program, "pgbouncer.ini"), errors.Join(
				os.WriteFile(filepath.Join(b.Dir(), "pgbouncer.ini"), []byte(ini), 0o644),
				os.WriteFile(filepath.Join(b.Dir(), "userlist.txt"), []byte(userlist), 0o644),
			)
		}
		ready := func(_ int, log string) bool { return strings.Contains(log, "process up: PgBouncer") }
		return b, b.Launch(nil, command, ready)
	})
}

// Find returns the path of the program: the one that DBSCOPE_PGBOUNCER names, else
// the one on PATH, else the one where systems put it.
func Find() (string, error) {
	path, err := child.Program(&child.MissingError{Name: "PgBouncer", Key: "pgbouncer", Variable: "DBSCOPE_PGBOUNCER"},
		"pgbouncer", "/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin")
	if err != nil {
		return "", fmt.Errorf("pgbouncer: %w", err)
	}
	return path, nil
}

// DSN is a connection URL of the server, as of [pgtest.Server.DSN] or
// CreateDatabase, changed to lead through the bouncer. It panics where dsn is
// no such URL. The database "pgbouncer" is the bouncer's own, which answers
// "show pools" and the like.
func (b *Bouncer) DSN(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" {
		panic(fmt.Sprintf("pgbouncer: not a postgres:// URL: %q", dsn))
	}
	u.Host = b.Addr()
	return u.String()
}

// Addr is where the bouncer listens, as host:port.
func (b *Bouncer) Addr() string { return "127.0.0.1:" + strconv.Itoa(b.Port()) }
