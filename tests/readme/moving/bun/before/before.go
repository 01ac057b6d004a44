// Package before passes a bun.IDB on.
package before

import (
	"context"

	"github.com/uptrace/bun"
)

// Order is a row.
type Order struct {
	ID   int64 `bun:",pk,autoincrement"`
	Item string
}

// Shop passes tx to everything that it calls.
type Shop struct{ orm *bun.DB }

// PlaceOrder is a use case.
func (s *Shop) PlaceOrder(ctx context.Context, item string) error {
	return s.orm.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		return s.store(ctx, tx, item)
	})
}

func (s *Shop) store(ctx context.Context, db bun.IDB, item string) error {
	_, err := db.NewInsert().Model(&Order{Item: item}).Exec(ctx)
	return err
}
