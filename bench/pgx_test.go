package bench

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// A whole unit of one statement with pgx: Begin, statement, Commit by hand,
// against Run.
func BenchmarkPgxUnitOfOneStatement(b *testing.B) {
	ctx := b.Context()
	config, err := pgxpool.ParseConfig(pgtest.Shared(b).CreateDatabase(b))
	must(b, err)
	pgxscope.Configure(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(b, err)
	_, err = pool.Exec(ctx, "CREATE UNLOGGED TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 0)")
	must(b, err)
	db := pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil })
	run := func(b *testing.B, byHand, inScope func(ctx context.Context, tx pgx.Tx) error) {
		compare(b, func() {
			tx, err := pool.Begin(ctx)
			must(b, err)
			must(b, byHand(ctx, tx))
			must(b, tx.Commit(ctx))
		}, func() {
			must(b, dbscope.Run(ctx, func(ctx context.Context) error { return inScope(ctx, nil) }))
		})
	}
	b.Run("QueryRow", func(b *testing.B) {
		run(b, func(ctx context.Context, tx pgx.Tx) error {
			var n int
			return tx.QueryRow(ctx, "SELECT n FROM t WHERE id = $1", 1).Scan(&n)
		}, func(ctx context.Context, _ pgx.Tx) error {
			var n int
			return db.QueryRow(ctx, "SELECT n FROM t WHERE id = $1", 1).Scan(&n)
		})
	})
	b.Run("Exec", func(b *testing.B) {
		run(b, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE t SET n = n WHERE id = $1", 1)
			return err
		}, func(ctx context.Context, _ pgx.Tx) error {
			_, err := db.Exec(ctx, "UPDATE t SET n = n WHERE id = $1", 1)
			return err
		})
	})
	must(b, db.Close())
}
