// Package first lets avito's manager begin its transactions inside of units.
package first

import (
	"context"
	"errors"

	"github.com/avito-tech/go-transaction-manager/drivers/pgxv5/v2"
	"github.com/avito-tech/go-transaction-manager/trm/v2"
	"github.com/avito-tech/go-transaction-manager/trm/v2/manager"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// inUnit begins the manager's transactions: inside of a unit as a savepoint of
// it, elsewhere as before.
type inUnit struct {
	db   *pgxscope.DB
	pool *pgxpool.Pool
}

// BeginTx is what the manager's factory asks for. The options are those of the
// unit, where there is one.
func (u inUnit) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := u.db.Session(ctx)
	if errors.Is(err, dbscope.ErrNoScope) {
		return u.pool.BeginTx(ctx, options)
	}
	if err != nil {
		return nil, err
	}
	return tx.Begin(ctx)
}

func newManager(db *pgxscope.DB, pool *pgxpool.Pool) trm.Manager {
	return manager.Must(pgxv5.NewDefaultFactory(inUnit{db, pool}))
}

var _ = newManager
