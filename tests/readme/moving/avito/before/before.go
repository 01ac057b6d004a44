// Package before uses avito's go-transaction-manager.
package before

import (
	"context"

	"github.com/avito-tech/go-transaction-manager/drivers/pgxv5/v2"
	"github.com/avito-tech/go-transaction-manager/trm/v2"
	"github.com/avito-tech/go-transaction-manager/trm/v2/manager"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Orders is a repository.
type Orders struct {
	pool   *pgxpool.Pool
	getter *pgxv5.CtxGetter
}

// Store must remember to ask the getter.
func (o *Orders) Store(ctx context.Context, item string) error {
	_, err := o.getter.DefaultTrOrDB(ctx, o.pool).Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}

// Shop has the manager.
type Shop struct {
	manager trm.Manager
	orders  *Orders
}

// NewShop is called once, at the start of the program.
func NewShop(pool *pgxpool.Pool) *Shop {
	return &Shop{manager.Must(pgxv5.NewDefaultFactory(pool)), &Orders{pool, pgxv5.DefaultCtxGetter}}
}

// PlaceOrder is a use case.
func (s *Shop) PlaceOrder(ctx context.Context, item string) error {
	return s.manager.Do(ctx, func(ctx context.Context) error { return s.orders.Store(ctx, item) })
}
