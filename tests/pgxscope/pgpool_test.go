package pgxscope_test

import (
	"context"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgpool"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// pgpool-II loses its way where messages come without a Sync of their own: it
// answers them in another order, or waits, or ends the connection.
func TestBehindPgpoolEachKindOfStatementCanBeTheFirstWithASeparateBegin(t *testing.T) {
	server := pgtest.Shared(t)
	through := pgpool.Start(t, server)
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			dsn := createDatabase(t)
			d := openDSN(t, through(dsn), dsn, mode, pgxscope.SeparateBegin())
			id := 0
			var stored []int
			for kind, statement := range statements {
				for range 2 {
					id++
					if err := dbscope.Run(t.Context(), func(ctx context.Context) error {
						return statement(ctx, d.DB, "t", id)
					}); err != nil {
						t.Fatalf("%s: %v", kind, err)
					}
					stored = append(stored, id)
				}
			}
			want(t, "stored", d.stored(t), stored...)
		})
	}
}
