package readme

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope"
)

func placeOrderAndTell(ctx context.Context, item, customer string) error {
	if err := placeOrder(ctx, item); err != nil {
		return err
	}
	return dbscope.AfterCommit(ctx, func(ctx context.Context) error {
		return mail(ctx, customer, "Your order is on its way: "+item)
	})
}

// keepStockPositive may be called by everything that takes from the stock.
func keepStockPositive(ctx context.Context) error {
	return shop.BeforeCommit(ctx, func(ctx context.Context) error {
		var negative int
		err := shop.QueryRowContext(ctx, `SELECT count(*) FROM stock WHERE n < 0`).Scan(&negative)
		if err == nil && negative > 0 {
			err = errors.New("more is sold than there is")
		}
		return err // prevents the commit, which returns dbscope.ErrRolledBack and this error
	})
}

// mail stands for what a program does when an order is stored.
func mail(_ context.Context, _, _ string) error { return nil }

var _, _ = placeOrderAndTell, keepStockPositive
