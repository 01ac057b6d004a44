// Package scopetest_test runs scopetest on real databases.
package scopetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
)

var ok, is = check.OK, check.Is

func TestMain(m *testing.M) { goleak.VerifyTestMain(mysqltest.Main(mariatest.Main(pgtest.Main(m)))) }

// database is what the tests use of a DB, whichever adapter's it is.
type database interface {
	dbscope.Database
	define(ctx context.Context, query string) error // on the pool
	exec(ctx context.Context, query string) error
	count(ctx context.Context) (int, error)
	detached(ctx context.Context, query string) error
	open(ctx context.Context, query string) (done func())
	other() database // a sibling
	SQL(opts ...sqlscope.SQLOption) *sql.DB
	Atomic(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
	AfterCommit(ctx context.Context, fn func(context.Context) error) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
	PurgeLedger(ctx context.Context, age time.Duration) error
	Close() error
}

type overSQL struct{ *sqlscope.DB }

func (d overSQL) define(ctx context.Context, query string) error {
	pool, err := d.Engine(ctx)
	if err == nil {
		_, err = pool.ExecContext(ctx, query)
	}
	return err
}

func (d overSQL) exec(ctx context.Context, query string) error {
	_, err := d.ExecContext(ctx, query)
	return err
}

func (d overSQL) count(ctx context.Context) (n int, err error) {
	err = d.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&n)
	return n, err
}

func (d overSQL) detached(ctx context.Context, query string) error {
	return dbscope.Run(dbscope.WithoutScope(ctx), func(ctx context.Context) error { return d.exec(ctx, query) })
}

func (d overSQL) other() database { return overSQL{d.Sibling("other")} }

func (d overSQL) open(ctx context.Context, query string) func() {
	rows, err := d.QueryContext(ctx, query)
	if err != nil {
		panic(err)
	}
	if !rows.Next() || rows.Err() != nil {
		panic(rows.Err())
	}
	return func() { _ = rows.Close() }
}

type overPgx struct{ *pgxscope.DB }

func (d overPgx) define(ctx context.Context, query string) error {
	pool, err := d.Pool(ctx)
	if err == nil {
		_, err = pool.Exec(ctx, query)
	}
	return err
}

func (d overPgx) exec(ctx context.Context, query string) error {
	_, err := d.Exec(ctx, query)
	return err
}

func (d overPgx) count(ctx context.Context) (n int, err error) {
	err = d.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n)
	return n, err
}

func (d overPgx) detached(ctx context.Context, query string) error {
	return dbscope.Run(dbscope.WithoutScope(ctx), func(ctx context.Context) error { return d.exec(ctx, query) })
}

func (d overPgx) other() database { return overPgx{d.Sibling("other")} }

func (d overPgx) open(ctx context.Context, query string) func() {
	rows, err := d.Query(ctx, query)
	if err != nil {
		panic(err)
	}
	rows.Next()
	return rows.Close
}

// kind tells databases apart that behave differently.
type kind int

const (
	isSQLite kind = 1 << iota
	isPostgreSQL
	isMariaDB // or MySQL
)

// opened is a database over a table t(id, parent).
type opened struct {
	database
	kind kind
}

// adapters open databases of the test's own.
var adapters = map[string]struct {
	kind kind
	dsn  func(t *testing.T) string
	open func(dsn string, opts ...dbscope.DBOption) database
}{
	"SQLite":                 {isSQLite, sqliteFile, bySqlscope("sqlite")},
	"MariaDB":                {isMariaDB, mariaDatabase, bySqlscope("mysql")},
	"MySQL":                  {isMariaDB, mysqlDatabase, bySqlscope("mysql")},
	"PostgreSQL by sqlscope": {isPostgreSQL, postgresSchema, bySqlscope("pgx")},
	"PostgreSQL by pgxscope": {isPostgreSQL, postgresSchema, func(dsn string, opts ...dbscope.DBOption) database {
		return overPgx{pgxscope.Open(dsn, opts...)}
	}},
}

func bySqlscope(driver string) func(dsn string, opts ...dbscope.DBOption) database {
	return func(dsn string, opts ...dbscope.DBOption) database {
		return overSQL{sqlscope.Open(driver, dsn, opts...)}
	}
}

func mariaDatabase(t *testing.T) string { return mariatest.Shared(t).CreateDatabase(t) }

// mysqlDatabase reads what is committed: by default what one test stores, and goes back
// to, keeps locks on the gaps beside it, in which others store, and they are a deadlock.
func mysqlDatabase(t *testing.T) string {
	return mysqltest.Shared(t).CreateDatabase(t) + "?transaction_isolation=%27READ-COMMITTED%27"
}

func sqliteFile(t *testing.T) string {
	return "file:" + filepath.Join(t.TempDir(), "test.db") + "?_pragma=journal_mode(WAL)"
}

var schemas atomic.Int64

// postgresSchema returns the URL of an empty schema, which takes less time than
// a database.
func postgresSchema(t *testing.T) string {
	server := pgtest.Shared(t)
	name := fmt.Sprintf("test%d", schemas.Add(1))
	db := sqlscope.Open("pgx", server.DSN("postgres"))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "CREATE SCHEMA "+name)
		return err
	}))
	ok(t, db.Close())
	return server.DSN("postgres") + "&search_path=" + name
}

// on runs a test on each database of the kinds.
func on(t *testing.T, kinds kind, test func(t *testing.T, d opened), opts ...dbscope.DBOption) {
	for name, adapter := range adapters {
		if adapter.kind&kinds == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			d := opened{adapter.open(adapter.dsn(t), opts...), adapter.kind}
			d.prepare(t)
			test(t, d)
			if got := d.stored(t); got != "0 <nil>" {
				t.Errorf("after the test there are %s rows", got)
			}
		})
	}
}

func onEach(t *testing.T, test func(t *testing.T, d opened), opts ...dbscope.DBOption) {
	on(t, isSQLite|isPostgreSQL|isMariaDB, test, opts...)
}

func onPostgreSQL(t *testing.T, test func(t *testing.T, d opened)) { on(t, isPostgreSQL, test) }

func (d opened) prepare(t *testing.T) {
	t.Cleanup(func() { ok(t, d.Close()) })
	deferrable := " DEFERRABLE INITIALLY DEFERRED"
	if d.kind == isMariaDB { // checks each row at once
		deferrable = ""
	}
	ok(t, d.define(t.Context(), "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id)"+deferrable+")"))
}

// stored is the real content.
func (d opened) stored(t *testing.T) string {
	var n int
	err := dbscope.Run(t.Context(), func(ctx context.Context) (err error) {
		n, err = d.count(ctx)
		return err
	}, dbscope.ReadOnly())
	return fmt.Sprint(n, err)
}

var errStop = errors.New("stop")

func want(ctx context.Context, t *testing.T, d opened, rows int) {
	t.Helper()
	n, err := d.count(ctx)
	ok(t, err)
	if n != rows {
		t.Fatalf("%d rows, want %d", n, rows)
	}
}

func insert(ctx context.Context, d opened, id int) error {
	return d.exec(ctx, fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", id))
}

func store(d opened, id int, end error) func(context.Context) error {
	return func(ctx context.Context) error { return errors.Join(insert(ctx, d, id), end) }
}

// sleep runs a statement that takes some time, on a server.
func sleep(ctx context.Context, d opened, seconds float64) error {
	query := "SELECT pg_sleep(%v)"
	if d.kind == isMariaDB {
		query = "SELECT SLEEP(%v)"
	}
	return d.exec(ctx, fmt.Sprintf(query, seconds))
}

// inTest runs a test of its own that ends before the outer one. With its context
// statements outside units are fixtures and checks.
func inTest(t *testing.T, d opened, test func(ctx context.Context, t *testing.T)) {
	t.Run("in a test", func(t *testing.T) { test(scopetest.Fixture(scopetest.Rollback(t, d)), t) })
	if got := d.stored(t); got != "0 <nil>" {
		t.Errorf("after the test there are %s rows", got)
	}
}

// R16.
func TestWhatScopesCommitIsSeenUntilTheTestEnds(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			ok(t, dbscope.Run(ctx, store(d, 1, nil)))
			is(t, dbscope.Run(ctx, store(d, 2, errStop)), errStop)
			want(ctx, t, d, 1)
			ok(t, insert(ctx, d, 3)) // a fixture
			if err := insert(ctx, d, 3); err == nil {
				t.Error("a duplicate was stored")
			}
			want(ctx, t, d, 2)
			if err := dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 4))
				_ = insert(ctx, d, 4) // spoils this scope alone
				return insert(ctx, d, 5)
			}); err == nil && d.kind == isPostgreSQL {
				t.Error("a spoiled scope was committed")
			}
			if d.kind == isPostgreSQL {
				want(ctx, t, d, 2)
			}
		})
	})
}

func TestScopesNestAndSpoilOnlyThemselves(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			hooks := 0
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				ok(t, d.AfterCommit(ctx, func(ctx context.Context) error { hooks++; return insert(ctx, d, 2) }))
				is(t, dbscope.Run(ctx, store(d, 3, errStop)), errStop)
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
					ok(t, d.AfterCommit(ctx, func(ctx context.Context) error { hooks++; return insert(ctx, d, 5) }))
					return insert(ctx, d, 4)
				}))
				is(t, d.Atomic(ctx, store(d, 6, errStop)), errStop)
				ok(t, d.Atomic(ctx, store(d, 7, nil)))
				ok(t, d.detached(ctx, "SELECT 1"))
				ok(t, d.Commit(ctx))
				ok(t, d.other().exec(ctx, "INSERT INTO t (id) VALUES (8)"))
				return insert(ctx, d, 9)
			}))
			want(ctx, t, d, 7) // 1, 2, 4, 5, 7, 8, 9
			if hooks != 2 {
				t.Errorf("%d hooks ran", hooks)
			}
		})
	})
}

// In a test the unit's savepoints are on the same connection as the block's.
func TestABlockAroundAUnitIsUndoneWhole(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			for _, end := range []error{nil, errStop} {
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					is(t, d.Atomic(ctx, func(ctx context.Context) error {
						ok(t, insert(ctx, d, 2))
						ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
							ok(t, insert(ctx, d, 3))
							is(t, d.Atomic(ctx, store(d, 4, end)), end)
							return nil
						}))
						return errStop
					}), errStop)
					return nil
				}))
				want(ctx, t, d, 1)
				ok(t, d.exec(ctx, "DELETE FROM t"))
			}
		})
	})
}

func TestScopesSideBySideTakeTurns(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			var units sync.WaitGroup
			for i := range 8 {
				units.Go(func() {
					if err := dbscope.Run(ctx, func(ctx context.Context) error {
						return errors.Join(insert(ctx, d, 2*i), insert(ctx, d, 2*i+1))
					}); err != nil {
						t.Error(err)
					}
				})
			}
			units.Wait()
			want(ctx, t, d, 16)
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 100))
				g := dbscope.NewGroup(ctx)
				for i := range 8 {
					g.Go(store(d, 101+i, nil))
				}
				return g.Wait()
			}))
			want(ctx, t, d, 25)
		})
	})
}

func TestACommitChecksWhatCOMMITWould(t *testing.T) {
	onPostgreSQL(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			orphan := func(ctx context.Context) error { return d.exec(ctx, "INSERT INTO t (id, parent) VALUES (1, 99)") }
			is(t, dbscope.Run(ctx, orphan), dbscope.ErrRolledBack)
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				return errors.Join(d.exec(ctx, "INSERT INTO t (id, parent) VALUES (1, 2)"), insert(ctx, d, 2))
			}))
			if err := dbscope.Run(ctx, store(d, 3, nil), dbscope.ReadOnly()); err == nil {
				t.Error("a read-only scope wrote")
			}
			ok(t, dbscope.Run(ctx, store(d, 3, nil)))
			want(ctx, t, d, 3)
		})
	})
}
