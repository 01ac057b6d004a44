package dbscope_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
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
		defer func() { _ = scope.End(ctx) }() // undoes what is not committed, also under a panic
		if handle(ctx) >= 400 {
			return nil
		}
		return scope.Commit(ctx) // and only then send the response
	}
	fmt.Println(request(context.Background()), fake.Rows())
	// Output: <nil> [row]
}

// A block that fails is undone on its own.
func ExampleDB_Atomic() {
	fake := drivertest.NewFake()
	db := fake.DB()

	err := dbscope.Run(context.Background(), func(ctx context.Context) error {
		if err := drivertest.Exec(ctx, db, "before"); err != nil {
			return err
		}
		err := db.Atomic(ctx, func(ctx context.Context) error { // a savepoint
			if err := drivertest.Exec(ctx, db, "undone"); err != nil {
				return err
			}
			return errors.New("changed my mind")
		})
		fmt.Println("block:", err)
		return drivertest.Exec(ctx, db, "after")
	})
	fmt.Println(err, fake.Rows())
	// Output:
	// block: changed my mind
	// <nil> [before after]
}

// What follows from a commit is registered where the work is done.
func ExampleAfterCommit() {
	fake := drivertest.NewFake()
	db := fake.DB()
	order := func(ctx context.Context, item string) error {
		if err := drivertest.Exec(ctx, db, item); err != nil {
			return err
		}
		return dbscope.AfterCommit(ctx, func(context.Context) error {
			fmt.Println("mail:", item, "is on its way")
			return nil
		})
	}

	ctx := context.Background()
	err := dbscope.Run(ctx, func(ctx context.Context) error {
		defer fmt.Println("the function returns")
		return order(ctx, "tea")
	})
	fmt.Println(err, fake.Rows())

	err = dbscope.Run(ctx, func(ctx context.Context) error {
		return errors.Join(order(ctx, "milk"), errors.New("no money"))
	})
	fmt.Println(err, fake.Rows())
	// Output:
	// the function returns
	// mail: tea is on its way
	// <nil> [tea]
	// no money [tea]
}

// Each function has a scope of its own, and is committed on its own.
func ExampleGroup() {
	fake := drivertest.NewFake()
	db := fake.DB()

	g := dbscope.NewGroup(context.Background())
	g.SetLimit(2)
	for _, item := range []string{"tea", "milk", "sugar"} {
		g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, item) })
	}
	fmt.Println(g.Wait(), len(fake.Rows()))
	// Output: <nil> 3
}

// All or nothing, though side by side.
func ExampleGroup_CommitTogether() {
	fake := drivertest.NewFake()
	db := fake.DB()

	g := dbscope.NewGroup(context.Background())
	g.CommitTogether()
	g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "tea") })
	g.Go(func(context.Context) error { return errors.New("no milk") })
	fmt.Println(g.Wait(), fake.Rows())
	// Output: no milk []
}

// The function is called again where the database undid its work for a reason
// that need not come again.
func ExampleRetry() {
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})

	attempts := 0
	err := dbscope.Run(context.Background(), func(ctx context.Context) error {
		attempts++
		return drivertest.Exec(ctx, db, "tea")
	}, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Millisecond}))
	fmt.Println(err, attempts, fake.Rows())
	// Output: <nil> 2 [tea]
}

// A transaction that other code has begun: what is called with the context that Adopt
// returns joins it.
func ExampleDB_Adopt() {
	fake := drivertest.NewFake()
	db := fake.DB()
	placeOrder := func(ctx context.Context) error { // moved to dbscope already
		if err := db.AfterCommit(ctx, func(context.Context) error { fmt.Println("mail"); return nil }); err != nil {
			return err
		}
		return drivertest.Exec(ctx, db, "order")
	}

	notMovedYet := func(ctx context.Context) error {
		tx, err := fake.BeginOther(ctx) // with sqlscope: pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := tx.Exec(ctx, "customer"); err != nil {
			return errors.Join(err, tx.Rollback(ctx))
		}
		joined, ended, err := db.Adopt(ctx, tx)
		if err != nil {
			return errors.Join(err, tx.Rollback(ctx))
		}
		if err := placeOrder(joined); err != nil {
			return errors.Join(err, tx.Rollback(ctx), ended(ctx, false))
		}
		err = tx.Commit(ctx)
		return errors.Join(err, ended(ctx, err == nil))
	}
	fmt.Println(notMovedYet(context.Background()), fake.Rows())
	// Output:
	// mail
	// <nil> [customer order]
}
