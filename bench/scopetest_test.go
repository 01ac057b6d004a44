package bench

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
)

// ordersSchema is that of examples/orders, and orderStock what it sells.
var ordersSchema = []string{
	"DROP TABLE IF EXISTS audit, orders, stock",
	"CREATE TABLE stock (sku TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0))",
	`CREATE TABLE orders (id TEXT PRIMARY KEY, customer TEXT NOT NULL, sku TEXT NOT NULL REFERENCES stock,
		quantity INTEGER NOT NULL, status TEXT NOT NULL, placed_at TIMESTAMP NOT NULL)`,
	"CREATE TABLE audit (id TEXT PRIMARY KEY, order_id TEXT NOT NULL REFERENCES orders, action TEXT NOT NULL, at TIMESTAMP NOT NULL)",
	"CREATE INDEX audit_order ON audit (order_id)",
	orderStock,
}

const orderStock = "INSERT INTO stock VALUES ('tea', 1000), ('coffee', 1000), ('last-cup', 1)"

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

// testOfAnOrder places an order and looks at what is stored.
func testOfAnOrder(ctx context.Context, b *testing.B, db ordersDB) {
	b.Helper()
	must(b, dbscope.Run(ctx, func(ctx context.Context) error {
		if err := db.exec(ctx, "UPDATE stock SET quantity = quantity - $1 WHERE sku = $2", 4, "tea"); err != nil {
			return err
		}
		if err := db.exec(ctx, "INSERT INTO orders VALUES ('1', 'Ann', 'tea', 4, 'placed', now())"); err != nil {
			return err
		}
		return db.exec(ctx, "INSERT INTO audit VALUES ('1', '1', 'placed', now())")
	}))
	must(b, dbscope.Run(ctx, func(ctx context.Context) error {
		for query, want := range map[string]int{
			"SELECT quantity FROM stock WHERE sku = 'tea'": 996, "SELECT count(*) FROM orders": 1, "SELECT count(*) FROM audit": 1,
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

// A suite of 300 tests on PostgreSQL: with scopetest; and with real commits,
// after each of which the tables are truncated and the stock filled again. In
// turn, a round of 30 tests each.
func BenchmarkSuiteOf300Tests(b *testing.B) {
	dsn := pgtest.Shared(b).CreateDatabase(b)
	for name, db := range map[string]ordersDB{
		"sqlscope": overSQL{sqlscope.Open("pgx", dsn)},
		"pgxscope": overPgx{pgxscope.Open(dsn)},
	} {
		b.Run(name, func(b *testing.B) {
			for _, statement := range ordersSchema {
				must(b, dbscope.Run(b.Context(), func(ctx context.Context) error { return db.exec(ctx, statement) }))
			}
			shared := func() {
				t := &oneTest{TB: b}
				testOfAnOrder(scopetest.Rollback(t, db), b, db)
				for _, f := range t.cleanups {
					f()
				}
			}
			truncated := func() {
				testOfAnOrder(b.Context(), b, db)
				must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
					return errors.Join(db.exec(ctx, "TRUNCATE stock, orders, audit"), db.exec(ctx, orderStock))
				}))
			}
			var fast, slow time.Duration
			for b.Loop() {
				fast, slow = 0, 0
				for range 10 {
					fast += time.Duration(30 * perCall(30, shared))
					slow += time.Duration(30 * perCall(30, truncated))
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(fast.Seconds(), "scopetest-s")
			b.ReportMetric(slow.Seconds(), "truncate-s")
			b.ReportMetric(slow.Seconds()/fast.Seconds(), "ratio")
		})
		must(b, db.Close())
	}
}
