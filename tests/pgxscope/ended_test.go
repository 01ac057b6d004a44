package pgxscope_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// serverEndings are the ways in which a server ends sessions while nothing is asked of
// it. Each returns when the clients of the database have been told.
var serverEndings = map[string]struct {
	settings []string
	end      func(t *testing.T, s *pgtest.Server, dsn string)
	state    string // what the server says, "" where it says nothing
}{
	"an administrator": {
		end: func(t *testing.T, s *pgtest.Server, dsn string) {
			s.Query(t, dsn, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'unit'")
			waitForNone(t, s, dsn)
		},
		state: "57P01",
	},
	"idle_in_transaction_session_timeout": {
		settings: []string{"idle_in_transaction_session_timeout = 50"},
		end:      waitForNone,
		state:    "25P03",
	},
	"a fast shutdown": {
		end:   func(_ *testing.T, s *pgtest.Server, _ string) { s.Stop() },
		state: "57P01",
	},
	"a killed server": {
		end: func(_ *testing.T, s *pgtest.Server, _ string) { s.Kill() },
	},
}

func waitForNone(t *testing.T, s *pgtest.Server, dsn string) {
	patience := time.Now().Add(time.Minute)
	for s.Query(t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'unit'") != "0" {
		if time.Now().After(patience) {
			t.Fatalf("it is still there: %s", s.Query(t, dsn, "SELECT * FROM pg_stat_activity WHERE application_name = 'unit'"))
		}
		time.Sleep(time.Millisecond)
	}
}

// waysToEnd are those in which a unit's transaction is committed.
var waysToEnd = map[string]func(ctx context.Context, d *opened) error{
	"the end of the unit": func(context.Context, *opened) error { return nil },
	"an early commit":     func(ctx context.Context, d *opened) error { return d.Commit(ctx) },
	"the handle": func(ctx context.Context, d *opened) error {
		tx, err := d.Session(ctx)
		return errors.Join(err, tx.Commit(ctx))
	},
	"Scope.Commit": func(ctx context.Context, _ *opened) error {
		scope, _ := dbscope.FromContext(ctx)
		return scope.Commit(ctx)
	},
}

// COMMIT is not sent on a connection that the server has ended: the unit is
// known to be undone, and its hooks run.
func TestASessionThatWasEndedBeforeCommitIsRolledBack(t *testing.T) {
	for name, c := range serverEndings {
		t.Run(name, func(t *testing.T) {
			server := pgtest.Start(t, c.settings...)
			dsn := server.CreateDatabase(t)
			server.Query(t, dsn, schema)
			named := dsn + "&application_name=unit"
			for how, through := range map[string]string{"directly": named, "over TLS": throughTLS(t, server, named)} {
				for way, end := range waysToEnd {
					for _, unit := range []struct {
						db   []dbscope.DBOption
						opts []dbscope.Option
					}{{}, {opts: []dbscope.Option{dbscope.ReadOnly()}}, {db: []dbscope.DBOption{fixedHost()}}} {
						if how != "directly" && unit.db == nil {
							continue
						}
						d := openDSN(t, through, dsn, pgx.QueryExecModeCacheStatement, unit.db...)
						hook := ""
						err := dbscope.Run(dbscope.ReadYourWrites(t.Context(), ""), func(ctx context.Context) error {
							ok(t, d.AfterRollback(ctx, func(context.Context) error { hook = "ran"; return nil }))
							if _, err := d.Exec(ctx, "SELECT 1"); err != nil {
								return err
							}
							c.end(t, server, dsn)
							return end(ctx, d)
						}, unit.opts...)
						if !errors.Is(err, dbscope.ErrRolledBack) || errors.Is(err, dbscope.ErrCommitUnknown) {
							t.Errorf("%s, %s: the error is %v", how, way, err)
						}
						var said *pgconn.PgError
						if c.state != "" && (!errors.As(err, &said) || said.Code != c.state) {
							t.Errorf("%s, %s: the error does not tell %s: %v", how, way, c.state, err)
						}
						if hook != "ran" {
							t.Errorf("%s, %s: the hook of AfterRollback has not run", how, way)
						}
						server.Restart(t)
					}
				}
			}
		})
	}
}

// The server's last word crosses COMMIT on its way: it is the answer, and it
// proves that COMMIT was not done.
func TestASessionThatIsEndedWhileCommitIsOnItsWayIsRolledBack(t *testing.T) {
	for name, opts := range map[string][]dbscope.DBOption{"plain": nil, "with a token": {fixedHost()}} {
		t.Run(name, func(t *testing.T) {
			server := pgtest.Shared(t)
			dsn := createDatabase(t)
			proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", server.Port()))
			d := openDSN(t, proxy.DSN(dsn)+"&application_name=unit", dsn, pgx.QueryExecModeCacheStatement, opts...)
			ended := make(chan struct{})
			err := dbscope.Run(dbscope.ReadYourWrites(t.Context(), ""), func(ctx context.Context) error {
				if err := insert(ctx, d, 1); err != nil {
					return err
				}
				proxy.Delay(8 * time.Second) // COMMIT arrives after half of it
				go func() {
					defer close(ended)
					for !slices.ContainsFunc(proxy.Messages(), func(m string) bool { return strings.Contains(m, "commit") }) {
						time.Sleep(time.Millisecond)
					}
					serverEndings["an administrator"].end(t, server, dsn)
				}()
				return nil
			})
			<-ended
			if !errors.Is(err, dbscope.ErrRolledBack) || errors.Is(err, dbscope.ErrCommitUnknown) {
				t.Errorf("the error is %v", err)
			}
			want(t, "stored", d.stored(t))
		})
	}
}

// Between two transactions of a unit nothing is lost with the connection.
func TestAConnectionThatWasEndedAfterAnEarlyCommitIsReplaced(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := createDatabase(t)
	d := openDSN(t, dsn+"&application_name=unit", dsn, pgx.QueryExecModeCacheStatement)
	for id, lost := range map[int]func(*pgx.Conn){
		1: func(*pgx.Conn) { serverEndings["an administrator"].end(t, server, dsn) },
		3: func(c *pgx.Conn) { ok(t, c.Close(t.Context())) },
	} {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			if err := insert(ctx, d, id); err != nil {
				return err
			}
			tx, err := d.Session(ctx)
			ok(t, err)
			conn := tx.Conn()
			ok(t, d.Commit(ctx))
			lost(conn)
			return insert(ctx, d, id+1)
		}))
	}
	want(t, "stored", d.stored(t), 1, 2, 3, 4)
}

// All sessions are looked at before the first COMMIT is sent.
func TestASessionThatWasEndedLetsNoOtherDatabaseCommit(t *testing.T) {
	server := pgtest.Shared(t)
	first, second := createDatabase(t), createDatabase(t)
	one := openDSN(t, first, first, pgx.QueryExecModeCacheStatement, dbscope.Name("one"))
	two := openDSN(t, second+"&application_name=unit", second, pgx.QueryExecModeCacheStatement, dbscope.Name("two"))
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		if err := errors.Join(insert(ctx, one, 1), insert(ctx, two, 1)); err != nil {
			return err
		}
		serverEndings["an administrator"].end(t, server, second)
		return nil
	})
	var failed *dbscope.CommitError
	if !errors.As(err, &failed) || errors.Is(err, dbscope.ErrCommitUnknown) || len(failed.Outcomes) != 2 {
		t.Fatalf("the error is %v", err)
	}
	want(t, "stored in the first", one.stored(t))
	want(t, "stored in the second", two.stored(t))
}

// What the pool holds was ended by the server, and the next units take new
// connections without an error.
func TestConnectionsThatWereEndedWhileIdleAreReplaced(t *testing.T) {
	for name, c := range serverEndings {
		if strings.Contains(name, "transaction") {
			continue // it ends no idle session
		}
		t.Run(name, func(t *testing.T) {
			server := pgtest.Start(t)
			dsn := server.CreateDatabase(t)
			server.Query(t, dsn, schema)
			named := dsn + "&application_name=unit&pool_max_conns=4"
			for how, through := range map[string]string{"directly": named, "over TLS": throughTLS(t, server, named)} {
				d := openDSN(t, through, dsn, pgx.QueryExecModeCacheStatement)
				ok(t, fillPool(t, d, 4))
				c.end(t, server, dsn)
				server.Restart(t)
				ok(t, fillPool(t, d, 4))
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					return d.SQL().QueryRowContext(ctx, "SELECT 1").Scan(new(int))
				}))
				if n := d.dialed.Load(); n != 8 {
					t.Errorf("%s: %d connections were dialed, want 4 and 4 in their place", how, n)
				}
			}
		})
	}
}

// fillPool runs n units that have a connection at the same time.
func fillPool(t *testing.T, d *opened, n int) error {
	var open sync.WaitGroup
	open.Add(n)
	g := dbscope.NewGroup(t.Context())
	for range n {
		g.Go(func(ctx context.Context) error {
			_, err := d.Exec(ctx, "SELECT 1")
			open.Done()
			open.Wait()
			return err
		})
	}
	return g.Wait()
}

// throughTLS returns the connection string of a server that speaks TLS and leads
// to the one given.
func throughTLS(t *testing.T, server *pgtest.Server, dsn string) string {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	config := &tls.Config{Certificates: certificate.TLS.Certificates}
	certificate.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			running.Go(func() { serveTLS(client, config, server.Port()) })
		}
	})
	t.Cleanup(func() { ok(t, listener.Close()); running.Wait() })
	u, err := url.Parse(dsn)
	ok(t, err)
	q := u.Query()
	q.Set("sslmode", "require")
	u.Host, u.RawQuery = listener.Addr().String(), q.Encode()
	return u.String()
}

func serveTLS(client net.Conn, config *tls.Config, port int) {
	defer func() { _ = client.Close() }() // it may be closed already
	request := make([]byte, 8)            // SSLRequest
	if _, err := io.ReadFull(client, request); err != nil {
		return
	}
	if _, err := client.Write([]byte("S")); err != nil {
		return
	}
	server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return
	}
	secured := tls.Server(client, config)
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, secured)
		_ = server.Close()
	})
	_, _ = io.Copy(secured, server)
	_ = secured.Close()
	_ = client.Close()
	both.Wait()
}
