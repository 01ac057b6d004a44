// Package scopetest_test runs scopetest on real databases.
package scopetest_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

// database is what the tests use of a DB, whichever adapter's it is.
type database interface {
	dbscope.Database
	exec(ctx context.Context, query string) error
	count(ctx context.Context) (int, error)
	atomic(ctx context.Context, fn func(context.Context) error) error
	afterCommit(ctx context.Context, fn func(context.Context) error) error
	detached(ctx context.Context, query string) error
	sibling(ctx context.Context, query string) error
	open(ctx context.Context, query string) (done func())
	Commit(ctx context.Context) error
	Close() error
}

type overSQL struct{ *sqlscope.DB }

func (d overSQL) exec(ctx context.Context, query string) error {
	_, err := d.ExecContext(ctx, query)
	return err
}

func (d overSQL) count(ctx context.Context) (n int, err error) {
	err = d.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&n)
	return n, err
}

func (d overSQL) atomic(ctx context.Context, fn func(context.Context) error) error {
	return d.Atomic(ctx, fn)
}

func (d overSQL) afterCommit(ctx context.Context, fn func(context.Context) error) error {
	return d.AfterCommit(ctx, fn)
}

func (d overSQL) detached(ctx context.Context, query string) error {
	return dbscope.Run(dbscope.Detach(ctx), func(ctx context.Context) error { return d.exec(ctx, query) })
}

func (d overSQL) sibling(ctx context.Context, query string) error {
	_, err := d.Sibling("other").ExecContext(ctx, query)
	return err
}

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

func (d overPgx) exec(ctx context.Context, query string) error {
	_, err := d.Exec(ctx, query)
	return err
}

func (d overPgx) count(ctx context.Context) (n int, err error) {
	err = d.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n)
	return n, err
}

func (d overPgx) atomic(ctx context.Context, fn func(context.Context) error) error {
	return d.Atomic(ctx, fn)
}

func (d overPgx) afterCommit(ctx context.Context, fn func(context.Context) error) error {
	return d.AfterCommit(ctx, fn)
}

func (d overPgx) detached(ctx context.Context, query string) error {
	return dbscope.Run(dbscope.Detach(ctx), func(ctx context.Context) error { return d.exec(ctx, query) })
}

func (d overPgx) sibling(ctx context.Context, query string) error {
	_, err := d.Sibling("other").Exec(ctx, query)
	return err
}

func (d overPgx) open(ctx context.Context, query string) func() {
	rows, err := d.Query(ctx, query)
	if err != nil {
		panic(err)
	}
	rows.Next()
	return rows.Close
}

// opened is a database over a table t(id, parent), and its real content.
type opened struct {
	database
	postgres bool
	stored   func(t *testing.T) string
}

func onEach(t *testing.T, test func(t *testing.T, d opened)) {
	const schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)"
	real := func(d database) func(t *testing.T) string {
		return func(t *testing.T) string {
			var n int
			err := dbscope.Run(t.Context(), func(ctx context.Context) (err error) {
				n, err = d.count(ctx)
				return err
			})
			return fmt.Sprint(n, err)
		}
	}
	for name, open := range map[string]func(t *testing.T) database{
		"SQLite": func(t *testing.T) database {
			return overSQL{sqlscope.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "test.db")+"?_pragma=journal_mode(WAL)")}
		},
		"PostgreSQL by sqlscope": func(t *testing.T) database {
			return overSQL{sqlscope.Open("pgx", pgtest.Shared(t).CreateDatabase(t))}
		},
		"PostgreSQL by pgxscope": func(t *testing.T) database {
			return overPgx{pgxscope.Open(pgtest.Shared(t).CreateDatabase(t))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			t.Cleanup(func() { ok(t, d.Close()) })
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return d.exec(ctx, schema) }))
			test(t, opened{d, strings.HasPrefix(name, "PostgreSQL"), real(d)})
			if got := real(d)(t); got != "0 <nil>" {
				t.Errorf("after the test there are %s rows", got)
			}
		})
	}
}

var errStop = errors.New("stop")

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func is(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want one that is %q", err, target)
	}
}

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

// inTest runs a test of its own that ends before the outer one.
func inTest(t *testing.T, d opened, test func(ctx context.Context, t *testing.T)) {
	t.Run("in a test", func(t *testing.T) { test(scopetest.Rollback(t, d), t) })
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
			}); err == nil && d.postgres {
				t.Error("a spoiled scope was committed")
			}
			if d.postgres {
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
				ok(t, d.afterCommit(ctx, func(ctx context.Context) error { hooks++; return insert(ctx, d, 2) }))
				is(t, dbscope.Run(ctx, store(d, 3, errStop)), errStop)
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
					ok(t, d.afterCommit(ctx, func(ctx context.Context) error { hooks++; return insert(ctx, d, 5) }))
					return insert(ctx, d, 4)
				}))
				is(t, d.atomic(ctx, store(d, 6, errStop)), errStop)
				ok(t, d.atomic(ctx, store(d, 7, nil)))
				ok(t, d.detached(ctx, "SELECT 1"))
				ok(t, d.Commit(ctx))
				ok(t, d.sibling(ctx, "INSERT INTO t (id) VALUES (8)"))
				return insert(ctx, d, 9)
			}))
			want(ctx, t, d, 7) // 1, 2, 4, 5, 7, 8, 9
			if hooks != 2 {
				t.Errorf("%d hooks ran", hooks)
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
	onEach(t, func(t *testing.T, d opened) {
		if !d.postgres {
			return
		}
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
