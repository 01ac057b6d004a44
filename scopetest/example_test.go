package scopetest_test

import (
	"context"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/scopetest"
)

// The application's.
var shop = sqlscope.Open("postgres", "postgres://app@127.0.0.1/shop")

func placeOrder(ctx context.Context, item string) error {
	_, err := shop.ExecContext(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}

// Everything that the test and the code store is undone when the test ends.
func ExampleRollback() {
	testPlaceOrder := func(t *testing.T) {
		ctx := scopetest.Rollback(t, shop)
		err := dbscope.Run(ctx, func(ctx context.Context) error { return placeOrder(ctx, "tea") })
		if err != nil {
			t.Fatal(err)
		}
		if n := scopetest.Count(ctx, shop, "orders"); n != 1 {
			t.Errorf("%d orders are stored", n)
		}
	}
	_ = testPlaceOrder // go test calls it
}
