package dbscope_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// A use case is stored whole or not at all, also where its caller ignores the error.
func ExampleJoin() {
	shop := drivertest.NewFake()
	db := shop.DB()
	placeOrder := func(ctx context.Context, fails bool) error {
		return dbscope.Join(ctx, func(ctx context.Context) error {
			if err := drivertest.Exec(ctx, db, "an order"); err != nil || !fails {
				return err
			}
			return errors.New("out of stock")
		})
	}
	fmt.Println(placeOrder(context.Background(), false)) // a unit of its own
	fmt.Println(dbscope.Run(context.Background(), func(ctx context.Context) error {
		_ = placeOrder(ctx, true)
		return nil
	}))
	fmt.Println(shop.Rows())
	// Output:
	// <nil>
	// dbscope: commit failed: fake: rolled back (dbscope: fake: the transaction was rolled back after: out of stock)
	// [an order]
}
