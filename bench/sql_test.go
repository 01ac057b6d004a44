package bench

import (
	"context"
	"database/sql"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(mariatest.Main(pgtest.Main(m)).Run()) }

// onEach runs a benchmark over two pools of one connection, each with a table t
// of one row: one to use by hand, one under the DB.
func onEach(b *testing.B, bench func(b *testing.B, pool *sql.DB, db *sqlscope.DB)) {
	for name, open := range map[string]func() (driver, dsn string){
		"SQLite":     func() (string, string) { return "sqlite", "file::memory:" },
		"PostgreSQL": func() (string, string) { return "pgx", pgtest.Shared(b).CreateDatabase(b) },
	} {
		b.Run(name, func(b *testing.B) {
			prepared := func() *sql.DB {
				driver, dsn := open()
				pool, err := sql.Open(driver, dsn)
				must(b, err)
				pool.SetMaxOpenConns(1)
				for _, query := range []string{"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO t VALUES (1, 'one')"} {
					_, err = pool.Exec(query)
					must(b, err)
				}
				return pool
			}
			byHand, under := prepared(), prepared()
			db := sqlscope.New(func(context.Context, string) (*sql.DB, error) { return under, nil })
			bench(b, byHand, db)
			must(b, byHand.Close())
			must(b, db.Close())
		})
	}
}

type rower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func query(ctx context.Context, b *testing.B, q rower) func() {
	return func() {
		var name string
		if err := q.QueryRowContext(ctx, "SELECT name FROM t WHERE id = $1", 1).Scan(&name); err != nil {
			b.Fatal(err)
		}
	}
}

// The same query inside an open transaction: by a plain *sql.Tx, against the DB,
// its *sql.DB and its handle; under a context that can be cancelled, as a
// request's, and one that cannot.
func BenchmarkQueryInAnOpenTransaction(b *testing.B) {
	onEach(b, func(b *testing.B, pool *sql.DB, db *sqlscope.DB) {
		for name, ctx := range map[string]context.Context{"cancellable": b.Context(), "background": context.Background()} {
			tx, err := pool.BeginTx(ctx, nil)
			must(b, err)
			must(b, dbscope.Run(ctx, func(scoped context.Context) error {
				handle, err := db.Session(scoped)
				must(b, err)
				for way, q := range map[string]rower{"DB": db, "SQL": db.SQL(), "handle": handle} {
					b.Run(name+"/"+way, func(b *testing.B) { compare(b, query(ctx, b, tx), query(scoped, b, q)) })
				}
				return nil
			}))
			must(b, tx.Rollback())
		}
	})
}

// A whole unit of one query: BeginTx, query, Commit by hand, against Run.
func BenchmarkUnitOfOneQuery(b *testing.B) {
	onEach(b, func(b *testing.B, pool *sql.DB, db *sqlscope.DB) {
		compare(b, func() {
			tx, err := pool.BeginTx(b.Context(), nil)
			must(b, err)
			query(b.Context(), b, tx)()
			must(b, tx.Commit())
		}, func() {
			must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
				query(ctx, b, db)()
				return nil
			}))
		})
	})
}
