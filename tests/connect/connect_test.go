package connect_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok, is = check.OK, check.Is

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

var errStop = errors.New("stop")

// shop is a DB, whichever adapter's it is.
type shop struct {
	exec   func(ctx context.Context, query string) error
	commit func(ctx context.Context) error
	atomic func(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
}

// onEachAdapter runs a test with a connection string by each adapter and driver.
func onEachAdapter(t *testing.T, dsn string, drivers []string, test func(t *testing.T, s shop)) {
	for _, name := range drivers {
		t.Run(name, func(t *testing.T) {
			if name == "pgxscope" {
				db := pgxscope.Open(dsn)
				t.Cleanup(func() { ok(t, db.Close()) })
				test(t, shop{
					exec:   func(ctx context.Context, query string) error { _, err := db.Exec(ctx, query); return err },
					commit: db.Commit, atomic: db.Atomic,
				})
				return
			}
			db := sqlscope.Open(name, dsn)
			t.Cleanup(func() { ok(t, db.Close()) })
			test(t, shop{
				exec:   func(ctx context.Context, query string) error { _, err := db.ExecContext(ctx, query); return err },
				commit: db.Commit, atomic: db.Atomic,
			})
		})
	}
}

var all = []string{"pgxscope", "pgx", "postgres"}

// works expects of units over a connection what they are for. The table is other's.
func works(t *testing.T, server *pgtest.Server, s shop) {
	t.Helper()
	server.Query(t, server.DSN("postgres"), "DROP TABLE IF EXISTS t; CREATE TABLE t (id INTEGER PRIMARY KEY); GRANT ALL ON t TO public")
	insert := func(ctx context.Context, id int) error {
		return s.exec(ctx, fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", id))
	}
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, 1))
		return errStop
	}), errStop)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, 2))
		if s.atomic(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, 3), insert(ctx, 2)) }) == nil {
			t.Error("a duplicate was stored")
		}
		ok(t, s.commit(ctx))
		return insert(ctx, 4)
	}))
	if got := server.Query(t, server.DSN("postgres"), "SELECT id FROM t ORDER BY id"); got != "2\n4" {
		t.Errorf("stored %q", got)
	}
}

// secured starts a server that takes passwords by SCRAM and certificates, over TLS alone,
// and whoever comes by its socket.
func secured(t *testing.T) (server *pgtest.Server, a *authority) {
	owner, err := pgtest.Owner()
	ok(t, err)
	dir, err := child.MakeDirectory("dbscope-connect-", owner)
	ok(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a = newAuthority(t, dir)
	a.issue(t, "server", "server")
	rules := `local   all all                trust
hostssl all by_password 127.0.0.1/32 scram-sha-256
hostssl all by_certificate 127.0.0.1/32 cert
host    all postgres 127.0.0.1/32 trust
`
	ok(t, os.WriteFile(filepath.Join(dir, "hba.conf"), []byte(rules), 0o644))
	ok(t, owner.Give(dir))
	server = pgtest.Start(t,
		"ssl = on", "ssl_cert_file = '"+a.file("server.crt")+"'", "ssl_key_file = '"+a.file("server.key")+"'",
		"ssl_ca_file = '"+a.file("ca.crt")+"'", "hba_file = '"+filepath.Join(dir, "hba.conf")+"'",
		"unix_socket_directories = '"+dir+"'", "password_encryption = 'scram-sha-256'")
	server.Query(t, server.DSN("postgres"), "CREATE ROLE by_password LOGIN PASSWORD 'it''s secret'; CREATE ROLE by_certificate LOGIN")
	a.issue(t, "client", "by_certificate") // the test's own, and not the server's
	return server, a
}

func TestUnitsOverConnectionsAsPeopleHaveThem(t *testing.T) {
	server, a := secured(t)
	base := fmt.Sprintf("port=%d dbname=postgres ", server.Port())
	for name, dsn := range map[string]string{
		"TLS and a password by SCRAM": base + `host=127.0.0.1 user=by_password password='it\'s secret' sslmode=verify-full sslrootcert=` + a.file("ca.crt"),
		"a client's certificate": base + "host=127.0.0.1 user=by_certificate sslmode=verify-full sslrootcert=" + a.file("ca.crt") +
			" sslcert=" + a.file("client.crt") + " sslkey=" + a.file("client.key"),
		"a Unix socket": base + "user=postgres sslmode=disable host=" + a.dir,
		"several hosts": fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=1,%d user=postgres dbname=postgres sslmode=disable target_session_attrs=read-write", server.Port()), // lib/pq takes no ports from a URL's list
	} {
		t.Run(name, func(t *testing.T) {
			onEachAdapter(t, dsn, all, func(t *testing.T, s shop) { works(t, server, s) })
		})
	}
	t.Run("protocol 3.2, or what the server has of it", func(t *testing.T) {
		dsn := server.DSN("postgres") + "&max_protocol_version=latest"
		onEachAdapter(t, dsn, []string{"pgxscope", "pgx"}, func(t *testing.T, s shop) { works(t, server, s) })
	})
	t.Run("a wrong password", func(t *testing.T) {
		dsn := base + "host=127.0.0.1 user=by_password password=wrong-and-secret sslmode=require"
		onEachAdapter(t, dsn, all, func(t *testing.T, s shop) {
			if dbscope.Run(t.Context(), func(ctx context.Context) error { return s.exec(ctx, "SELECT 1") }) == nil {
				t.Error("it was taken")
			}
		})
	})
}

// In statement mode PgBouncer refuses transactions.
func TestUnitsBehindPgBouncerInEachMode(t *testing.T) {
	server := pgtest.Start(t)
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			bouncer := pgbouncer.Start(t, server, "pool_mode = "+mode)
			dsn := bouncer.DSN(server.DSN("postgres"))
			onEachAdapter(t, dsn+"&default_query_exec_mode=cache_describe", []string{"pgxscope", "pgx"}, func(t *testing.T, s shop) { works(t, server, s) })
			onEachAdapter(t, dsn, []string{"postgres"}, func(t *testing.T, s shop) { works(t, server, s) })
		})
	}
	t.Run("statement", func(t *testing.T) {
		bouncer := pgbouncer.Start(t, server, "pool_mode = statement")
		onEachAdapter(t, bouncer.DSN(server.DSN("postgres")), all, func(t *testing.T, s shop) {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error { return s.exec(ctx, "SELECT 1") })
			if err == nil || errors.Is(err, dbscope.ErrCommitUnknown) {
				t.Errorf("the error is %v", err)
			}
		})
	})
}
