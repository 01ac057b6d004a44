package readme

import (
	"context"

	"github.com/dbscope/dbscope"
)

// importOrders stores all of it or nothing, except for orders that cannot be
// stored: those it notes.
func importOrders(ctx context.Context, items []string) error {
	return shop.Atomic(ctx, func(ctx context.Context) error {
		for _, item := range items {
			err := shop.Atomic(ctx, func(ctx context.Context) error { // a savepoint
				return placeOrder(ctx, item)
			})
			if err == nil {
				continue
			}
			if _, err := shop.ExecContext(ctx, `INSERT INTO refused (item) VALUES ($1)`, item); err != nil {
				return err
			}
		}
		return nil
	})
}

// orderForGood is durable when it returns nil. A caller who has a transaction
// open, and could still undo it, gets dbscope.ErrOpenTransaction.
func orderForGood(ctx context.Context, item string) error {
	return shop.Atomic(ctx, func(ctx context.Context) error {
		return placeOrder(ctx, item)
	}, dbscope.RefuseOpen)
}

// PlaceOrder is one unit by itself, from a command or a worker, and a part of the
// caller's unit where there is one, as in a request.
func PlaceOrder(ctx context.Context, item string) error {
	return dbscope.Join(ctx, func(ctx context.Context) error {
		if _, err := shop.ExecContext(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, item); err != nil {
			return err
		}
		return placeOrder(ctx, item)
	})
}

var _, _ = importOrders, orderForGood
