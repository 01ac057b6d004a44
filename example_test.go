package dbscope_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// Functions that have the context share one transaction. Here it is a fake
// database's; with sqlscope the handle is a *sql.Tx, with pgxscope a pgx.Tx.
func ExampleRun() {
	fake := drivertest.NewFake()
	db := fake.DB()
	store := func(ctx context.Context, row string) error {
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		return tx.Exec(ctx, row)
	}

	ctx := context.Background()
	err := dbscope.Run(ctx, func(ctx context.Context) error {
		return errors.Join(store(ctx, "one"), store(ctx, "two"))
	})
	fmt.Println(err, fake.Rows())

	err = dbscope.Run(ctx, func(ctx context.Context) error {
		if err := store(ctx, "three"); err != nil {
			return err
		}
		return errors.New("changed my mind")
	})
	fmt.Println(err, fake.Rows())

	err = store(ctx, "four")
	fmt.Println(errors.Is(err, dbscope.ErrNoScope))
	// Output:
	// <nil> [one two]
	// changed my mind [one two]
	// true
}

// What a middleware for a framework consists of.
func ExampleBegin() {
	fake := drivertest.NewFake()
	db := fake.DB()
	handle := func(ctx context.Context) (status int) {
		if err := drivertest.Exec(ctx, db, "row"); err != nil {
			return 500
		}
		return 200
	}

	request := func(ctx context.Context) error {
		ctx, scope := dbscope.Begin(ctx)
		defer func() { _ = scope.Release(ctx) }() // undoes what is not committed, also under a panic
		if handle(ctx) >= 400 {
			return nil
		}
		return scope.Commit(ctx) // and only then send the response
	}
	fmt.Println(request(context.Background()), fake.Rows())
	// Output: <nil> [row]
}
