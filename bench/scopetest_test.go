package bench

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
)

// ordersSchema is that of examples/orders.
var ordersSchema = []string{
	"DROP TABLE IF EXISTS audit, orders, stock",
	"CREATE TABLE stock (sku TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0))",
	`CREATE TABLE orders (id TEXT PRIMARY KEY, customer TEXT NOT NULL, sku TEXT NOT NULL REFERENCES stock,
		quantity INTEGER NOT NULL, status TEXT NOT NULL, placed_at TIMESTAMP NOT NULL)`,
	"CREATE TABLE audit (id TEXT PRIMARY KEY, order_id TEXT NOT NULL REFERENCES orders, action TEXT NOT NULL, at TIMESTAMP NOT NULL)",
	"CREATE INDEX audit_order ON audit (order_id)",
}

// ordersDB is what the tests use of a DB.
type ordersDB interface {
	dbscope.Database
	exec(ctx context.Context, query string, args ...any) error
	number(ctx context.Context, query string, args ...any) (int, error)
	Close() error
}

type overSQL struct{ *sqlscope.DB }

func (d overSQL) exec(ctx context.Context, query string, args ...any) error {
	_, err := d.ExecContext(ctx, query, args...)
	return err
}

func (d overSQL) number(ctx context.Context, query string, args ...any) (n int, err error) {
	err = d.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

type overPgx struct{ *pgxscope.DB }

func (d overPgx) exec(ctx context.Context, query string, args ...any) error {
	_, err := d.Exec(ctx, query, args...)
	return err
}

func (d overPgx) number(ctx context.Context, query string, args ...any) (n int, err error) {
	err = d.QueryRow(ctx, query, args...).Scan(&n)
	return n, err
}

// testOfAnOrder places an order and looks at what is stored. What it sells is
// its own, so that such tests can run side by side.
func testOfAnOrder(ctx context.Context, b *testing.B, db ordersDB, id string) {
	b.Helper()
	must(b, dbscope.Run(ctx, func(ctx context.Context) error {
		return db.exec(ctx, "INSERT INTO stock VALUES ($1, 1000)", "tea"+id)
	}))
	must(b, dbscope.Run(ctx, func(ctx context.Context) error {
		if err := db.exec(ctx, "UPDATE stock SET quantity = quantity - $1 WHERE sku = $2", 4, "tea"+id); err != nil {
			return err
		}
		if err := db.exec(ctx, "INSERT INTO orders VALUES ($1, 'Ann', $2, 4, 'placed', now())", id, "tea"+id); err != nil {
			return err
		}
		return db.exec(ctx, "INSERT INTO audit VALUES ($1, $1, 'placed', now())", id)
	}))
	must(b, dbscope.Run(ctx, func(ctx context.Context) error {
		for query, want := range map[string]int{
			"SELECT sum(quantity) FROM stock": 996, "SELECT count(*) FROM orders": 1, "SELECT count(*) FROM audit": 1,
		} {
			if n, err := db.number(ctx, query); err != nil || n != want {
				return fmt.Errorf("%s: %d, %w", query, n, err)
			}
		}
		return nil
	}))
}

// oneTest is a test that ends when we say so.
type oneTest struct {
	testing.TB
	cleanups []func()
}

func (t *oneTest) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

// A suite of 300 tests on PostgreSQL: with scopetest, one after the other and
// eight at a time; and with real commits, after each of which the tables are
// truncated, where tests cannot run side by side. In turn, a round of 30 tests
// each.
func BenchmarkSuiteOf300Tests(b *testing.B) {
	dsn := pgtest.Shared(b).CreateDatabase(b)
	for name, db := range map[string]ordersDB{
		"sqlscope": overSQL{sqlscope.New(func(context.Context, string) (*sql.DB, error) {
			pool, err := sql.Open("pgx", dsn)
			if err == nil {
				pool.SetMaxIdleConns(8)
			}
			return pool, err
		})},
		"pgxscope": overPgx{pgxscope.Open(dsn + "&pool_max_conns=8")},
	} {
		b.Run(name, func(b *testing.B) {
			for _, statement := range ordersSchema {
				must(b, dbscope.Run(b.Context(), func(ctx context.Context) error { return db.exec(ctx, statement) }))
			}
			shared := func(id string) {
				t := &oneTest{TB: b}
				testOfAnOrder(scopetest.Rollback(t, db), b, db, id)
				for _, f := range t.cleanups {
					f()
				}
			}
			truncated := func(id string) {
				testOfAnOrder(b.Context(), b, db, id)
				must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
					return db.exec(ctx, "TRUNCATE stock, orders, audit")
				}))
			}
			var fast, parallel, slow time.Duration
			for b.Loop() {
				fast, parallel, slow = 0, 0, 0
				for range 10 {
					fast += timeOf30(1, shared)
					parallel += timeOf30(8, shared)
					slow += timeOf30(1, truncated)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(fast.Seconds(), "scopetest-s")
			b.ReportMetric(parallel.Seconds(), "parallel-s")
			b.ReportMetric(slow.Seconds(), "truncate-s")
			b.ReportMetric(slow.Seconds()/fast.Seconds(), "ratio")
			b.ReportMetric(slow.Seconds()/parallel.Seconds(), "ratio-parallel")
		})
		must(b, db.Close())
	}
}

// timeOf30 runs 30 tests, some of them at a time.
func timeOf30(atATime int, test func(id string)) time.Duration {
	runtime.GC() // the others' garbage
	var tests sync.WaitGroup
	room := make(chan struct{}, atATime)
	start := time.Now()
	for i := range 30 {
		room <- struct{}{}
		tests.Go(func() {
			defer func() { <-room }()
			test(strconv.Itoa(i))
		})
	}
	tests.Wait()
	return time.Since(start)
}
