package bench

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// A query in an adopted *sql.Tx: by the DB, its *sql.DB and its handle, against the
// same on the *sql.Tx itself.
func BenchmarkAdopted(b *testing.B) {
	onEach(b, func(b *testing.B, pool *sql.DB, db *sqlscope.DB) {
		ctx := context.Background()
		tx, err := pool.BeginTx(ctx, nil)
		must(b, err)
		joined, ended, err := db.Adopt(ctx, tx)
		must(b, err)
		handle, err := db.Session(joined)
		must(b, err)
		for way, q := range map[string]rower{"DB": db, "SQL": db.SQL(), "handle": handle} {
			b.Run(way, func(b *testing.B) { compare(b, query(ctx, b, tx), query(joined, b, q)) })
		}
		must(b, tx.Rollback())
		must(b, ended(ctx, false))
	})
}

// The same for a pgx.Tx.
func BenchmarkAdoptedPgx(b *testing.B) {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, pgtest.Shared(b).CreateDatabase(b))
	must(b, err)
	db := pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil })
	tx, err := pool.Begin(ctx)
	must(b, err)
	joined, ended, err := db.Adopt(ctx, tx)
	must(b, err)
	one := 0
	compare(b, func() { must(b, tx.QueryRow(ctx, "SELECT 1").Scan(&one)) },
		func() { must(b, db.QueryRow(joined, "SELECT 1").Scan(&one)) })
	must(b, tx.Rollback(ctx))
	must(b, ended(ctx, false))
	must(b, db.Close())
}
