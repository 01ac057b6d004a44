package pgxscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// endOfUnit is a unit, and whether its end waits for the server's answer.
type endOfUnit struct {
	db    []dbscope.DBOption
	dsn   string // further parameters
	opts  []dbscope.Option
	fn    func(ctx context.Context, d *opened) error
	waits bool
}

func statement(text string) func(ctx context.Context, d *opened) error {
	return func(ctx context.Context, d *opened) error {
		_, err := d.Exec(ctx, text)
		return err
	}
}

func fails(fn func(ctx context.Context, d *opened) error) func(ctx context.Context, d *opened) error {
	return func(ctx context.Context, d *opened) error {
		_ = fn(ctx, d)
		return errStop
	}
}

var (
	reads     = statement("SELECT 1")
	readOnly  = []dbscope.Option{dbscope.ReadOnly()}
	unitsEnds = map[string]endOfUnit{
		"a read-only unit":                {opts: readOnly, fn: reads},
		"one with repeatable reads":       {opts: append(readOnly, dbscope.Isolation(sql.LevelRepeatableRead)), fn: reads},
		"one that is serializable":        {opts: append(readOnly, dbscope.Isolation(sql.LevelSerializable)), fn: reads, waits: true},
		"one that is deferrable too":      {opts: append(readOnly, dbscope.Isolation(sql.LevelSerializable), dbscope.Deferrable()), fn: reads},
		"one that is so by default":       {opts: readOnly, dsn: "&default_transaction_isolation=serializable", fn: reads, waits: true},
		"one with AwaitEnd":               {opts: append(readOnly, dbscope.AwaitEnd()), fn: reads, waits: true},
		"one that has become a writer":    {opts: readOnly, fn: statement("SET TRANSACTION READ WRITE"), waits: true},
		"one that has made itself strict": {opts: readOnly, fn: statement("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), waits: true},
		"one that notifies":               {opts: readOnly, fn: statement("NOTIFY channel"), waits: true},
		"one with a procedure":            {opts: readOnly, fn: statement("DO 'BEGIN END'"), waits: true},
		"one with a cursor":               {opts: readOnly, fn: statement("DECLARE c CURSOR FOR SELECT 1")},
		"one with rows left open": {opts: readOnly, fn: func(ctx context.Context, d *opened) error {
			_, err := d.Query(ctx, "SELECT generate_series(1, 10)") //nolint:rowserrcheck,sqlclosecheck // left open on purpose
			return err
		}, waits: true},
		"one whose connection was lent": {opts: readOnly, fn: func(ctx context.Context, d *opened) error {
			tx, err := d.Session(ctx)
			return errors.Join(err, tx.Conn().Ping(ctx))
		}, waits: true},
		"one through SQL": {opts: readOnly, fn: func(ctx context.Context, d *opened) error {
			return d.SQL().QueryRowContext(ctx, "SELECT $1::int", 1).Scan(new(int))
		}},
		"one with settings": {
			db: []dbscope.DBOption{dbscope.Settings(func(context.Context) ([]dbscope.Setting, error) {
				return []dbscope.Setting{{Name: "work_mem", Value: "64kB"}}, nil
			})},
			opts: readOnly, fn: reads,
		},
		"one with a savepoint": {opts: readOnly, fn: func(ctx context.Context, d *opened) error {
			return errors.Join(reads(ctx, d), d.Atomic(ctx, func(ctx context.Context) error { return reads(ctx, d) }))
		}},
		"one that has failed and gone on": {opts: readOnly, fn: func(ctx context.Context, d *opened) error {
			err := d.Atomic(ctx, func(ctx context.Context) error { return statement("SELECT 1/0")(ctx, d) })
			if err == nil {
				return errors.New("division by zero succeeded")
			}
			return reads(ctx, d)
		}},
		"one that pgpool-II may see": {db: []dbscope.DBOption{pgxscope.SeparateBegin()}, opts: readOnly, fn: reads, waits: true},
		"a unit that may write":      {fn: reads, waits: true},
		"a rollback":                 {fn: fails(statement("INSERT INTO t VALUES (1)"))},
		"a rollback of reads":        {opts: readOnly, fn: fails(reads)},
		"a rollback after a failure": {fn: fails(statement("SELECT 1/0"))},
		"a rollback with AwaitEnd":   {opts: []dbscope.Option{dbscope.AwaitEnd()}, fn: fails(reads), waits: true},
		"a rollback with Retry":      {opts: []dbscope.Option{dbscope.Retry(dbscope.RetryPolicy{})}, fn: fails(reads), waits: true},
		"a rollback with a hook": {fn: fails(func(ctx context.Context, d *opened) error {
			return errors.Join(reads(ctx, d), dbscope.AfterRollback(ctx, func(context.Context) error { return nil }))
		}), waits: true},
		"a rollback of a cancelled statement": {fn: fails(func(ctx context.Context, d *opened) error {
			ctx, cancel := context.WithCancel(ctx)
			rows, err := d.Query(ctx, "SELECT generate_series(1, 3)")
			if err == nil {
				rows.Next()
				cancel()
				rows.Close()
			}
			cancel()
			return err
		}), waits: true},
	}
)

func TestTheEndIsWaitedForOnlyWhereSomethingDependsOnIt(t *testing.T) {
	base := createDatabase(t)
	for name, c := range unitsEnds {
		t.Run(name, func(t *testing.T) {
			for _, mode := range modes {
				d, gate := openGated(t, mode, base+c.dsn, c.db...)
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					err := c.fn(ctx, d)
					gate.set(true)
					return err
				}, append(c.opts, dbscope.CommitTimeout(50*time.Millisecond))...)
				expected := errors.Is(err, errStop)
				if waited := err != nil && (!expected || err != errStop); waited != c.waits { //nolint:errorlint // joined, where it waits
					t.Errorf("%v: waited for the answer: %v, with the error %v", mode, waited, err)
				}
				gate.set(false)
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return reads(ctx, d) }))
			}
		})
	}
}

// One that a unit changes for its connection is known to the next.
func TestADefaultIsolationThatASessionSetsIsHeeded(t *testing.T) {
	for _, level := range []string{"serializable", "repeatable read"} {
		d, gate := openGated(t, pgx.QueryExecModeCacheStatement, createDatabase(t))
		ok(t, dbscope.Run(t.Context(), statementOf(d, "SELECT 1"), dbscope.ReadOnly()))
		ok(t, dbscope.Run(t.Context(), statementOf(d, "SET default_transaction_isolation = '"+level+"'")))
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			defer gate.set(true)
			return reads(ctx, d)
		}, dbscope.ReadOnly(), dbscope.CommitTimeout(50*time.Millisecond))
		if waited := err != nil; waited != (level == "serializable") {
			t.Errorf("%s: %v", level, err)
		}
		gate.set(false)
	}
}

func TestAnEarlyEndIsWaitedForAndSoAreThoseOfGroups(t *testing.T) {
	d, gate := openGated(t, pgx.QueryExecModeCacheStatement, createDatabase(t))
	opts := []dbscope.Option{dbscope.ReadOnly(), dbscope.CommitTimeout(50 * time.Millisecond)}
	held := func(ctx context.Context) error {
		err := reads(ctx, d)
		gate.set(true)
		return err
	}
	for name, run := range map[string]func() error{
		"DB.Commit": func() error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error { return errors.Join(held(ctx), d.Commit(ctx)) }, opts...)
		},
		"DB.Rollback": func() error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error { return errors.Join(held(ctx), d.Rollback(ctx)) }, opts...)
		},
		"Scope.Commit": func() error {
			ctx, scope := dbscope.Begin(t.Context(), opts...)
			defer scope.End(ctx) //nolint:errcheck // there is nothing left to end
			return errors.Join(held(ctx), scope.Commit(ctx))
		},
		"a block of its own": func() error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error { return d.Atomic(ctx, held) }, opts...)
		},
		"a function of a Group that fails": func() error {
			g := dbscope.NewGroup(t.Context(), opts...)
			g.Go(func(ctx context.Context) error { return errors.Join(held(ctx), errStop) })
			return onlyStop(g.Wait())
		},
		"a Group that commits together": func() error {
			g := dbscope.NewGroup(t.Context(), opts...)
			g.CommitTogether()
			g.Go(held)
			return g.Wait()
		},
	} {
		if err := run(); err == nil {
			t.Errorf("%s: nobody has waited for the answer", name)
		}
		gate.set(false)
	}
}

// onlyStop takes away errStop where there is nothing else.
func onlyStop(err error) error {
	if err == errStop { //nolint:errorlint // nothing joined to it
		return nil
	}
	return err
}

func TestAReadOnlyUnitOfNStatementsTakesNRoundTripsAndSoDoesOneThatIsRolledBack(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d, proxy := openWire(t, mode)
			each := 1
			if mode == pgx.QueryExecModeDescribeExec {
				each = 2
			}
			for _, result := range []error{nil, errStop} {
				unit := func(n int, opts ...dbscope.Option) {
					is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
						for range n {
							if err := d.QueryRow(ctx, "SELECT count(*) FROM t WHERE id = $1", 1).Scan(new(int)); err != nil {
								return err
							}
						}
						return result
					}, append(opts, dbscope.ReadOnly())...), result)
				}
				unit(1)
				proxy.Delay(20 * time.Millisecond) // so that an answer does not come before the next statement
				unit(1, dbscope.AwaitEnd())
				proxy.Reset()
				for range 5 {
					unit(3)
				}
				unit(3, dbscope.AwaitEnd())
				proxy.Delay(0)
				if got, want := proxy.RoundTrips(), 6*3*each+1; got != want {
					t.Errorf("%d round trips, want %d:\n%v", got, want, proxy.Messages())
				}
			}
		})
	}
}

// Whatever uses the connection next takes the answer out first.
func TestWhatThePoolDoesWithAConnectionWhoseEndIsOnItsWay(t *testing.T) {
	dsn := createDatabase(t)
	var hooks atomic.Int64
	hook := func(ctx context.Context, c *pgx.Conn) bool {
		hooks.Add(1)
		var status string
		err := c.QueryRow(ctx, "SELECT current_setting('transaction_read_only')").Scan(&status)
		return err == nil && status == "off"
	}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d := openPool(t, dsn, dsn, func(config *pgxpool.Config) {
				config.ConnConfig.DefaultQueryExecMode = mode
				config.MaxConns = 2
				config.PrepareConn = func(ctx context.Context, c *pgx.Conn) (bool, error) { return hook(ctx, c), nil }
				config.AfterRelease = func(c *pgx.Conn) bool { return hook(context.Background(), c) }
				config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return rand.IntN(2) == 0 }
			})
			pool, err := d.Pool(t.Context())
			ok(t, err)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for i := range 100 {
						result := error(nil)
						if i%3 == 0 {
							result = errStop
						}
						err := dbscope.Run(t.Context(), func(ctx context.Context) error {
							return errors.Join(reads(ctx, d), result)
						}, dbscope.ReadOnly())
						if !errors.Is(err, result) {
							t.Errorf("the unit: %v", err)
						}
						if _, err := pool.Exec(t.Context(), "CREATE TEMPORARY TABLE IF NOT EXISTS x ()"); err != nil {
							t.Errorf("a statement of the pool's own: %v", err)
						}
					}
				})
			}
			all.Wait()
			if dialed := d.dialed.Load(); dialed > 2 {
				t.Errorf("%d connections were made, some of them since another was thrown away", dialed)
			}
		})
	}
	if hooks.Load() == 0 {
		t.Error("no hook of the pool has run")
	}
}

func TestAPoolThatClosesDoesNotWaitForAnEnd(t *testing.T) {
	dsn := createDatabase(t)
	for range 20 {
		d := openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return reads(ctx, d) }, dbscope.ReadOnly()))
		ok(t, d.Close())
	}
}

// Notifications, and whatever else comes between two units, reach pgx.
func TestWhatComesWithAnEndReachesPgx(t *testing.T) {
	dsn := createDatabase(t)
	var told atomic.Int64
	d := openPool(t, dsn, dsn, func(config *pgxpool.Config) {
		config.MaxConns = 1
		config.ConnConfig.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
			if n.Payload != "" {
				told.Add(1)
			}
		}
	})
	ok(t, dbscope.Run(t.Context(), statementOf(d, "LISTEN channel")))
	const units = 300
	for i := range units {
		pgtest.Shared(t).Query(t, dsn, "SELECT pg_notify('channel', 'payload "+itoa(i)+"')")
		ok(t, dbscope.Run(t.Context(), statementOf(d, "SELECT 1"), dbscope.ReadOnly()))
	}
	for told.Load() < units {
		ok(t, dbscope.Run(t.Context(), statementOf(d, "SELECT 1"), dbscope.ReadOnly()))
	}
}

func statementOf(d *opened, text string) func(context.Context) error {
	return func(ctx context.Context) error { return statement(text)(ctx, d) }
}

// shortConn ends after so many bytes of answers, once it is told to.
type shortConn struct {
	net.Conn
	left *atomic.Int64 // negative: all
}

func (c shortConn) Read(b []byte) (int, error) {
	left := c.left.Load()
	if left < 0 {
		return c.Conn.Read(b)
	}
	if left == 0 {
		_ = c.Close()
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b[:min(len(b), int(left))])
	c.left.Add(-int64(n))
	return n, err
}

// The connection breaks off after each byte of the answer that nobody waits for, and
// of those behind it: a unit after that is whole, on a new connection, or fails, and
// its verdict is what is stored.
func TestAnEndThatIsCutAfterAnyByteHurtsNoUnitAfterIt(t *testing.T) {
	dsn := createDatabase(t)
	for _, mode := range modes {
		for _, result := range []error{nil, errStop} {
			var left atomic.Int64
			left.Store(-1)
			d := openPool(t, dsn, dsn, func(config *pgxpool.Config) {
				config.ConnConfig.DefaultQueryExecMode = mode
				config.MaxConns = 1
				dial := (&net.Dialer{}).DialContext
				config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
					left.Store(-1) // a new one is whole
					c, err := dial(ctx, network, address)
					return shortConn{c, &left}, err
				}
			})
			v := &verdicts{}
			for bytes := range int64(80) {
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					err := reads(ctx, d)
					left.Store(bytes)
					return errors.Join(err, result)
				}, dbscope.ReadOnly()), result)
				id := int(bytes)
				v.note(id, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, id) }))
				left.Store(-1)
				v.note(100+id, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 100+id) }))
			}
			v.check(t, d)
			if len(v.undone) == 0 || len(v.committed) < 80 {
				t.Errorf("%v: %d committed, %d undone", mode, len(v.committed), len(v.undone))
			}
			pgtest.Shared(t).Query(t, dsn, "DELETE FROM t")
		}
	}
}

func TestAServerThatIsKilledBehindAnEndHurtsNoUnitAfterIt(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Query(t, dsn, schema)
	d := openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement)
	for id := range 5 {
		for _, result := range []error{nil, errStop} {
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return errors.Join(reads(ctx, d), result) }, dbscope.ReadOnly()), result)
		}
		server.Kill()
		server.Restart(t)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, id) }))
	}
	if got := server.Query(t, dsn, "SELECT count(*) FROM t"); got != "5" {
		t.Errorf("%s rows are stored, want 5", got)
	}
}

// One that waits for its lock as it ends leaves the lock for a moment, unless the unit
// asks to wait.
func TestAfterAwaitEndNobodyMeetsTheUnitsLocks(t *testing.T) {
	dsn := createDatabase(t)
	d, other := openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement), openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement)
	for range 500 {
		ok(t, dbscope.Run(t.Context(), statementOf(d, "SELECT pg_advisory_xact_lock(1)"), dbscope.ReadOnly(), dbscope.AwaitEnd()))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			var free bool
			err := other.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock(1)").Scan(&free)
			if !free {
				t.Error("the lock is held still")
			}
			return err
		}, dbscope.ReadOnly(), dbscope.AwaitEnd()))
	}
}

func TestThroughPgBouncerAnEndNeedsNoAnswerEither(t *testing.T) {
	dsn := createDatabase(t)
	bouncer := pgbouncer.Start(t, pgtest.Shared(t))
	d := openPool(t, bouncer.DSN(dsn), dsn, func(config *pgxpool.Config) {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		config.MaxConns = 8
	})
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 200 {
				id := w*1000 + i
				ok(t, dbscope.Run(t.Context(), statementOf(d, "SELECT 1"), dbscope.ReadOnly()))
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return errors.Join(insert(ctx, d, id), errStop) }), errStop)
				if i%4 == 0 {
					ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, id) }))
				}
			}
		})
	}
	all.Wait()
	if got := len(d.stored(t)); got != 8*50 {
		t.Errorf("%d rows are stored, want %d", got, 8*50)
	}
}

// Answers to ends that nobody waits for are cut while other units run.
func TestEndsThatAreCutUnderLoadLeaveEveryVerdictTrue(t *testing.T) {
	for name, cut := range map[string]string{"COMMIT": "COMMIT", "ROLLBACK": "ROLLBACK"} {
		t.Run(name, func(t *testing.T) {
			server := pgtest.Shared(t)
			dsn := server.CreateDatabase(t)
			server.Query(t, dsn, schema)
			proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", server.Port()))
			d := openPool(t, proxy.DSN(dsn), dsn, func(config *pgxpool.Config) { config.MaxConns = 4 })
			v := &verdicts{}
			stop := make(chan struct{})
			var workers sync.WaitGroup
			for w := range 4 {
				workers.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						id := n*4 + w
						if cut == "COMMIT" {
							_ = dbscope.Run(t.Context(), statementOf(d, "SELECT 1"), dbscope.ReadOnly())
						} else {
							_ = dbscope.Run(t.Context(), func(ctx context.Context) error { return errors.Join(insert(ctx, d, -id-1), errStop) })
						}
						v.note(id, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, id) }))
					}
				})
			}
			for before, cuts := proxy.Cuts(), cutsToMake(5000); proxy.Cuts() < before+cuts; time.Sleep(time.Millisecond) {
				if rand.IntN(2) == 0 {
					proxy.Cut(wire.CutAt{Message: "Query", Containing: map[string]string{"COMMIT": "commit", "ROLLBACK": "rollback"}[cut], When: moments[rand.IntN(3)], Times: 1})
				} else {
					proxy.Cut(wire.CutAt{Message: "CommandComplete", Containing: cut, When: moments[rand.IntN(3)], Times: 1})
				}
			}
			proxy.Mend()
			close(stop)
			workers.Wait()
			v.check(t, d)
		})
	}
}
