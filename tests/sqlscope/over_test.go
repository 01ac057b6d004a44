package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

func TestAnEarlyEndBesideTheEndOfATransactionOfSQLLeavesBothOver(t *testing.T) {
	races := 50
	if os.Getenv("DBSCOPE_LONG") != "" {
		races = 1_000
	}
	onEach(t, func(t *testing.T, d *opened) {
		for i := range races {
			var opts []sqlscope.SQLOption
			if i%4 < 2 {
				opts = append(opts, sqlscope.JoinBegin())
			}
			end := (*sql.Tx).Rollback
			if i%2 == 0 {
				end = (*sql.Tx).Commit
			}
			ctx, scope := dbscope.Begin(t.Context())
			whole, err := d.handle(ctx)
			ok(t, err)
			if i%8 < 4 {
				ok(t, insert(ctx, d, 2*i))
			}
			nested, cancel := context.WithCancel(ctx)
			tx, err := d.SQL(opts...).BeginTx(nested, nil)
			ok(t, err)
			ok(t, insert(ctx, tx, 2*i+1))
			var both sync.WaitGroup
			both.Go(func() { _ = scope.Rollback(ctx) })
			both.Go(func() { _ = end(tx) })
			both.Go(cancel)
			both.Wait()
			if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) { // the usual deferred one
				t.Fatal(err)
			}
			is(t, insert(ctx, tx, 1), sql.ErrTxDone)
			is(t, insert(ctx, whole, 1), sql.ErrTxDone)
			ok(t, scope.End(ctx))
			if n := d.inUse(t); n > 0 {
				t.Fatalf("%d connections are in use", n)
			}
		}
	})
}
