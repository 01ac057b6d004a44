package pgxscope_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
	"github.com/dbscope/dbscope/tests/wire"
)

func insertCommit(ctx context.Context, d *opened, id int) error {
	_, err := d.ExecCommit(ctx, "INSERT INTO t (id) VALUES ($1)", id)
	return err
}

func TestAUnitWhoseLastStatementIsExecCommitTakesARoundTripForEach(t *testing.T) {
	for name, opts := range map[string][]dbscope.DBOption{
		"plain":        nil,
		"with a token": {fixedHost()},
		"with settings": {dbscope.Settings(func(context.Context) ([]dbscope.Setting, error) {
			return []dbscope.Setting{{Name: "work_mem", Value: "64kB"}}, nil
		})},
		"settled by status": {dbscope.SettleByStatus()},
	} {
		for _, mode := range modes {
			t.Run(name+", "+mode.String(), func(t *testing.T) {
				dsn := createDatabase(t)
				proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
				d := openDSN(t, proxy.DSN(dsn), dsn, mode, opts...)
				id := 0
				unit := func(n int) {
					ok(t, dbscope.Run(dbscope.ReadYourWrites(t.Context(), ""), func(ctx context.Context) error {
						for range n - 1 {
							id++
							ok(t, insert(ctx, d, id))
						}
						id++
						return insertCommit(ctx, d, id)
					}))
				}
				unit(2) // connects, and fills the statement cache
				unit(2)
				each, more := 1, 0
				if mode == pgx.QueryExecModeDescribeExec {
					each = 2
				}
				if name == "settled by status" {
					more = 1
				}
				for _, n := range []int{1, 2, 5} {
					proxy.Reset()
					unit(n)
					if got, want := proxy.RoundTrips(), each*n+more; got != want {
						t.Errorf("%d statements took %d round trips, want %d:\n%v", n, got, want, proxy.Messages())
					}
				}
				if got := len(d.stored(t)); got != id {
					t.Errorf("%d rows are stored, want %d", got, id)
				}
			})
		}
	}
}

// lastStatements are last ones of a unit, and what must become of them.
var lastStatements = map[string]struct {
	sql    string
	args   []any
	code   string // of the server's error, or ""
	failed bool
}{
	"one that succeeds":                  {sql: "INSERT INTO t (id) VALUES ($1)", args: []any{10}},
	"one without arguments":              {sql: "INSERT INTO t (id) VALUES (10)"},
	"several":                            {sql: "INSERT INTO t (id) VALUES (10); SELECT 1"},
	"one with rows":                      {sql: "INSERT INTO t (id) VALUES ($1) RETURNING id, 'text'", args: []any{10}},
	"one that fails to prepare":          {sql: "INSERT INTO nowhere (id) VALUES ($1)", args: []any{10}, code: "42P01"},
	"one that fails to parse":            {sql: "INSERT INTO nowhere (id) VALUES (10)", code: "42P01"},
	"one that fails to execute":          {sql: "INSERT INTO t (id) VALUES ($1), (10)", args: []any{10}, code: "23505"},
	"one that fails without arguments":   {sql: "INSERT INTO t (id) VALUES (10), (10)", code: "23505"},
	"the second of several":              {sql: "INSERT INTO t (id) VALUES (10); SELECT 1/0", code: "22012"},
	"one that fails the commit":          {sql: "INSERT INTO t (id, parent) VALUES ($1, -1)", args: []any{10}, code: "23503"},
	"one that fails it without argument": {sql: "INSERT INTO t (id, parent) VALUES (10, -1)", code: "23503"},
	"one whose argument pgx refuses":     {sql: "INSERT INTO t (id) VALUES ($1)", args: []any{make(chan int)}, failed: true},
	"one with an argument too many":      {sql: "INSERT INTO t (id) VALUES ($1)", args: []any{10, 11}, failed: true},
}

func TestExecCommitStoresAllOfItsTransactionOrSaysThatNothingIs(t *testing.T) {
	for db, opts := range map[string][]dbscope.DBOption{
		"plain": nil, "with a token": {fixedHost()}, "settled by status": {dbscope.SettleByStatus()},
		"with BEGIN by itself": {pgxscope.SeparateBegin()},
		"with settings": {dbscope.Settings(func(context.Context) ([]dbscope.Setting, error) {
			return []dbscope.Setting{{Name: "work_mem", Value: "64kB"}}, nil
		})},
	} {
		for _, mode := range modes {
			dsn := createDatabase(t)
			d := openPool(t, dsn, dsn, func(config *pgxpool.Config) {
				config.ConnConfig.DefaultQueryExecMode = mode
				config.MaxConns = 1
			}, opts...)
			for name, c := range lastStatements {
				for _, first := range []bool{true, false} {
					pgtest.Shared(t).Query(t, dsn, "DELETE FROM t")
					after := ""
					err := dbscope.Run(dbscope.ReadYourWrites(t.Context(), ""), func(ctx context.Context) error {
						if !first {
							ok(t, insert(ctx, d, 1))
						}
						ok(t, d.AfterCommit(ctx, func(context.Context) error { after = "committed"; return nil }))
						ok(t, d.AfterRollback(ctx, func(context.Context) error { after = "rolled back"; return nil }))
						_, err := d.ExecCommit(ctx, c.sql, c.args...)
						if err := insert(ctx, d, 2); err != nil { // the scope goes on
							t.Errorf("the transaction after it: %v", err)
						}
						return errors.Join(err, d.Commit(ctx))
					})
					wanted, hook := []int{2}, "rolled back"
					if c.code == "" && !c.failed {
						wanted, hook = append(wanted, 10), "committed"
						if !first {
							wanted = slices.Insert(wanted, 0, 1)
						}
					}
					place := fmt.Sprintf("%s, %v, %s, first %v: %v", db, mode, name, first, err)
					slices.Sort(wanted)
					want(t, place, d.stored(t), wanted...)
					if after != hook {
						t.Errorf("%s: the hook that has run is %q", place, after)
					}
					var refused *pgconn.PgError
					switch {
					case hook == "committed":
						ok(t, err)
					case !errors.Is(err, dbscope.ErrRolledBack) || errors.Is(err, dbscope.ErrCommitUnknown):
						t.Errorf("%s: it is not %v", place, dbscope.ErrRolledBack)
					case c.code != "" && (!errors.As(err, &refused) || refused.Code != c.code):
						t.Errorf("%s: it does not tell %s", place, c.code)
					}
				}
			}
			if dialed := d.dialed.Load(); dialed != 1 {
				t.Errorf("%s, %v: %d connections were made", db, mode, dialed)
			}
		}
	}
}

func TestExecCommitIsRefusedWhereACommitIs(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	refused := func(ctx context.Context) {
		t.Helper()
		is(t, insertCommit(ctx, d, 1), dbscope.ErrOpenTransaction)
	}
	is(t, insertCommit(t.Context(), d, 1), dbscope.ErrNoScope)
	is(t, insertCommit(t.Context(), open(t, pgx.QueryExecModeExec, dbscope.AllowUnscoped()), 1), dbscope.ErrNoScope)
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, d.Atomic(ctx, func(ctx context.Context) error { refused(ctx); return nil }))
		ok(t, dbscope.Join(ctx, func(ctx context.Context) error { refused(ctx); return nil }))
		tx, err := d.Session(ctx)
		ok(t, err)
		ok(t, insert(ctx, d, 5))
		nested, err := tx.Begin(ctx)
		ok(t, err)
		refused(ctx)
		ok(t, nested.Rollback(ctx))
		for _, text := range []string{"COMMIT", "INSERT INTO t VALUES (1); ROLLBACK", "/* */ savepoint dbscope_1"} {
			if _, err := d.ExecCommit(ctx, text); !errors.Is(err, dbscope.ErrOpenTransaction) {
				t.Errorf("%s: %v", text, err)
			}
		}
		if _, err := d.ExecCommit(ctx, " copy t FROM STDIN"); err == nil || !strings.Contains(err.Error(), "CopyFrom") {
			t.Errorf("COPY: %v", err)
		}
		return errStop
	}), errStop)
	g := dbscope.NewGroup(t.Context())
	g.CommitTogether()
	g.Go(func(ctx context.Context) error { refused(ctx); return nil })
	ok(t, g.Wait())
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, dbscope.MarkRollback(ctx))
		is(t, insertCommit(ctx, d, 1), dbscope.ErrRollbackOnly)
		return nil
	}), dbscope.ErrRollbackOnly)
	ended := t.Context()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { ended = ctx; return nil })) //nolint:fatcontext // after its end
	is(t, insertCommit(ended, d, 1), dbscope.ErrScopeEnded)
	want(t, "stored", d.stored(t))
}

func TestHooksBeforeTheCommitRunBeforeExecCommitsStatement(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	for name, opening := range map[string]bool{"first": true, "later": false} {
		pgtest.Shared(t).Query(t, d.dsn, "DELETE FROM t")
		var order []string
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			if !opening {
				ok(t, insert(ctx, d, 1))
			}
			ok(t, d.BeforeCommit(ctx, func(ctx context.Context) error {
				order = append(order, "hook")
				return insert(ctx, d, 2)
			}))
			_, err := d.ExecCommit(ctx, "INSERT INTO t (id) SELECT max(id) + 1 FROM t")
			order = append(order, "statement")
			return err
		}))
		if got := strings.Join(order, ", "); got != "hook, statement" {
			t.Errorf("%s: %s", name, got)
		}
		if stored := d.stored(t); !slices.Contains(stored, 3) {
			t.Errorf("%s: stored are %v", name, stored)
		}
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, d.BeforeCommit(ctx, func(context.Context) error { return errStop }))
			return insertCommit(ctx, d, 50)
		}), errStop)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, d.BeforeCommit(ctx, func(ctx context.Context) error { return d.Commit(ctx) }))
			if err := insertCommit(ctx, d, 51); err == nil {
				t.Error("a statement succeeded that a hook had left no transaction for")
			}
			return nil
		}))
		if stored := d.stored(t); slices.Contains(stored, 50) || slices.Contains(stored, 51) {
			t.Errorf("%s: stored are %v", name, stored)
		}
	}
}

func TestACancelledContextDoesNotStopExecCommitThatWasSent(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		_, err := d.ExecCommit(ctx, "INSERT INTO t (id) SELECT 1 FROM pg_sleep($1)", 0.3)
		return err
	}))
	want(t, "stored", d.stored(t), 1)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	is(t, dbscope.Run(ctx, func(ctx context.Context) error { return insertCommit(ctx, d, 2) }), context.Canceled)
	want(t, "stored", d.stored(t), 1)
}

func TestExecCommitIsLimitedByCommitTimeoutOrALaterDeadline(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	slow := func(ctx context.Context) error {
		_, err := d.ExecCommit(ctx, "INSERT INTO t (id) SELECT 1 FROM pg_sleep($1)", 0.3)
		return err
	}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tag, err := d.ExecCommit(ctx, "INSERT INTO t (id) VALUES ($1)", 7)
		if tag.RowsAffected() != 1 {
			t.Errorf("the tag is %s", tag)
		}
		return err
	}))
	limited := dbscope.CommitTimeout(50 * time.Millisecond)
	is(t, dbscope.Run(t.Context(), slow, limited), dbscope.ErrCommitUnknown)
	pgtest.Shared(t).Query(t, d.dsn, "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
	pgtest.Shared(t).Query(t, d.dsn, "DELETE FROM t WHERE id = 1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ok(t, dbscope.Run(ctx, slow, limited))
}

type panickingArgument struct{}

func (panickingArgument) Value() (driver.Value, error) { panic("on purpose") }

func TestAnArgumentThatPanicsInExecCommitLosesOnlyItsUnit(t *testing.T) {
	for _, mode := range modes {
		dsn := createDatabase(t)
		d := openPool(t, dsn, dsn, func(config *pgxpool.Config) {
			config.ConnConfig.DefaultQueryExecMode = mode
			config.MaxConns = 1
		})
		func() {
			defer func() { _ = recover() }()
			_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				_, err := d.ExecCommit(ctx, "INSERT INTO t (id) VALUES ($1)", panickingArgument{})
				return err
			})
		}()
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insertCommit(ctx, d, 2) }))
		want(t, mode.String(), d.stored(t), 2)
	}
}

// What the transaction's COMMIT refuses is repeated as what COMMIT refuses is.
func TestAUnitThatExecCommitCouldNotCommitIsRetried(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	pgtest.Shared(t).Query(t, d.dsn, "INSERT INTO t VALUES (1), (2)")
	tries := 0
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tries++
		if err := d.QueryRow(ctx, "SELECT count(*) FROM t").Scan(new(int)); err != nil {
			return err
		}
		if tries == 1 {
			pgtest.Shared(t).Query(t, d.dsn, "BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO t SELECT 10 + count(*) FROM t; COMMIT")
		}
		_, err := d.ExecCommit(ctx, "INSERT INTO t SELECT 20 + count(*) FROM t")
		return err
	}, dbscope.Isolation(6), dbscope.Retry(dbscope.RetryPolicy{})))
	if tries < 2 {
		t.Errorf("it was tried %d times", tries)
	}
}

func TestExecCommitInATestIsUndoneWithTheTest(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	t.Run("on one transaction", func(t *testing.T) {
		ctx := scopetest.Rollback(t, d)
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return insertCommit(ctx, d, 1) }))
		is(t, dbscope.Run(ctx, func(ctx context.Context) error { return insertCommit(ctx, d, 1) }), dbscope.ErrRolledBack)
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
			var n int
			err := d.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n)
			if n != 1 {
				t.Errorf("%d rows are there", n)
			}
			return err
		}))
	})
	want(t, "stored", d.stored(t))
}

// Each message of the one round trip is cut at each of its ends.
func TestExecCommitThatIsCutTellsTheTruth(t *testing.T) {
	for name, opts := range map[string][]dbscope.DBOption{"plain": nil, "with a token": {fixedHost()}, "settled by status": {dbscope.SettleByStatus()}} {
		for _, mode := range modes {
			t.Run(name+", "+mode.String(), func(t *testing.T) {
				dsn := createDatabase(t)
				proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
				d := openDSN(t, proxy.DSN(dsn), dsn, mode, opts...)
				v := &verdicts{}
				id := 0
				for _, message := range [][2]string{
					{"Parse", "begin"},
					{"Parse", "INSERT"},
					{"Bind", "begin"},
					{"Bind", "INSERT"},
					{"Execute", "INSERT"},
					{"Sync", ""},
					{"Query", "INSERT"},
					{"Query", "commit"},
					{"ParseComplete", ""},
					{"BindComplete", ""},
					{"CommandComplete", "BEGIN"},
					{"CommandComplete", "INSERT"},
					{"CommandComplete", "COMMIT"},
					{"ReadyForQuery", "T"},
					{"ReadyForQuery", "I"},
				} {
					for _, when := range moments {
						for _, later := range []bool{false, true} {
							id += 10
							ctx := dbscope.ReadYourWrites(t.Context(), "")
							for dbscope.Run(ctx, func(ctx context.Context) error { return reads(ctx, d) }) != nil {
							}
							err := dbscope.Run(ctx, func(ctx context.Context) error {
								if later {
									ok(t, insert(ctx, d, id+1))
								}
								proxy.Cut(wire.CutAt{Message: message[0], Containing: message[1], When: when, Times: 1})
								err := insertCommit(ctx, d, id)
								proxy.Mend()
								return err
							})
							v.note(id, err)
							if later {
								v.note(id+1, err)
							}
						}
					}
				}
				v.check(t, d)
				if name == "settled by status" && len(v.unknown) > 0 {
					t.Errorf("unknown are %v", v.unknown)
				}
			})
		}
	}
}

func TestExecCommitsThatAreCutUnderLoadLeaveEveryVerdictTrue(t *testing.T) {
	for name, opts := range map[string][]dbscope.DBOption{"plain": nil, "settled by status": {dbscope.SettleByStatus()}, "with a token": {fixedHost()}} {
		t.Run(name, func(t *testing.T) {
			d, proxy := openSettled(t, pgtest.Shared(t), opts...)
			v := cuttingUnits(t, proxy, cutsToMake(5000), func(ctx context.Context, id int) error {
				return insertCommit(ctx, d, id)
			})
			v.check(t, d)
			if name == "settled by status" && len(v.unknown) > 0 {
				t.Errorf("unknown are %v", v.unknown)
			}
		})
	}
}

func TestExecCommitThroughPgBouncer(t *testing.T) {
	dsn := createDatabase(t)
	bouncer := pgbouncer.Start(t, pgtest.Shared(t))
	d := openPool(t, bouncer.DSN(dsn), dsn, func(config *pgxpool.Config) {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		config.MaxConns = 8
	})
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 100 {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insertCommit(ctx, d, w*100+i) }))
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insertCommit(ctx, d, w*100+i) }), dbscope.ErrRolledBack)
			}
		})
	}
	all.Wait()
	if got := len(d.stored(t)); got != 800 {
		t.Errorf("%d rows are stored, want 800", got)
	}
}
