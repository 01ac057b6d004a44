package first

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/avito-tech/go-transaction-manager/drivers/pgxv5/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

func TestTheManagersTransactionsArePartsOfTheUnitAndWithoutOneTheirOwn(t *testing.T) {
	url := pgtest.Shared(t).CreateDatabase(t)
	db := pgxscope.Open(url)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close(); _ = db.Close() })
	if _, err := pool.Exec(t.Context(), `CREATE TABLE orders (item text)`); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	m := newManager(db, pool)
	store := func(ctx context.Context) error { // one function is moved, the other is not
		return m.Do(ctx, func(ctx context.Context) error {
			_, err := pgxv5.DefaultCtxGetter.DefaultTrOrDB(ctx, pool).Exec(ctx, `INSERT INTO orders VALUES ('not moved')`)
			if _, inUnit := dbscope.FromContext(ctx); inUnit && err == nil {
				_, err = db.Exec(ctx, `INSERT INTO orders VALUES ('moved')`)
			}
			return err
		})
	}
	stored := func() (n int) {
		if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM orders`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	err = dbscope.Run(t.Context(), func(ctx context.Context) error { return errors.Join(store(ctx), stop) })
	if n := stored(); n != 0 || !errors.Is(err, stop) {
		t.Errorf("%d orders of a unit that was undone, %v", n, err)
	}
	if err := dbscope.Run(t.Context(), store); err != nil {
		t.Error(err)
	}
	if n := stored(); n != 2 {
		t.Errorf("%d orders of a unit, not 2", n)
	}
	if err := store(t.Context()); err != nil {
		t.Error(err)
	}
	if n := stored(); n != 3 {
		t.Errorf("%d orders without a unit, not 3", n)
	}
}
