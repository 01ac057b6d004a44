package readme

import (
	"context"

	"github.com/dbscope/dbscope"
)

func placeOrders(ctx context.Context, items []string) error {
	g := dbscope.NewGroup(ctx)
	g.SetLimit(4) // four at a time, on four connections
	for _, item := range items {
		g.Go(func(ctx context.Context) error { return placeOrder(ctx, item) })
	}
	return g.Wait()
}

func restock(ctx context.Context, items []string) error {
	if _, err := shop.ExecContext(ctx, `UPDATE stock SET n = 100`); err != nil {
		return err
	}
	if err := shop.Commit(ctx); err != nil {
		return err
	}
	if err := shop.Release(ctx); err != nil { // Commit alone keeps the connection
		return err
	}
	return placeOrders(ctx, items)
}

var _ = restock
