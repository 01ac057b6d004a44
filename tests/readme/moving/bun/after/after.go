// Package after is package before when it has been moved.
package after

import (
	"context"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// Order is a row.
type Order struct {
	ID   int64 `bun:",pk,autoincrement"`
	Item string
}

// Shop has no transaction in its signatures.
type Shop struct{ orm *bun.DB }

// NewShop is called once, at the start of the program.
func NewShop(db *pgxscope.DB) *Shop { return &Shop{bun.NewDB(db.SQL(), pgdialect.New())} }

// PlaceOrder is a use case.
func (s *Shop) PlaceOrder(ctx context.Context, item string) error {
	return dbscope.Join(ctx, func(ctx context.Context) error { return s.store(ctx, item) })
}

func (s *Shop) store(ctx context.Context, item string) error {
	_, err := s.orm.NewInsert().Model(&Order{Item: item}).Exec(ctx)
	return err
}
