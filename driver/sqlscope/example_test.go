package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// The DB is a package variable or a field. Any registered driver will do.
var shop = sqlscope.Open("pgx", "postgres://app@{host}/shop", dbscope.Host("127.0.0.1"))

func Example() {
	ctx := context.Background()
	err := dbscope.Run(ctx, func(ctx context.Context) error {
		// The DB's own methods, the *sql.Tx and a *sql.DB for your library are
		// all in one transaction.
		if _, err := shop.ExecContext(ctx, `INSERT INTO orders (item) VALUES ($1)`, "tea"); err != nil {
			return err
		}
		tx, err := shop.Session(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, "tea"); err != nil {
			return err
		}
		_, err = shop.SQL().ExecContext(ctx, `INSERT INTO audit (what) VALUES ('order')`)
		return err
	})
	fmt.Println(err)
}

// Limits are set on the pool under the DB. Nothing is opened by that.
func ExampleDB_Engine() {
	pool, err := shop.Engine(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	pool.SetMaxOpenConns(20)
}

// placeOrder has the context; this caller has a *sql.Tx, as before.
func ExampleDB_Adopt() {
	placeOrder := func(ctx context.Context) error {
		_, err := shop.ExecContext(ctx, `INSERT INTO orders (item) VALUES ($1)`, "tea")
		return err
	}
	withTx := func(ctx context.Context, tx *sql.Tx) (err error) {
		defer func() { _ = tx.Rollback() }()
		joined, ended, err := shop.Adopt(ctx, tx)
		if err != nil {
			return err
		}
		committed := false
		defer func() { err = errors.Join(err, ended(ctx, committed)) }()
		if err := placeOrder(joined); err != nil {
			return err
		}
		err = tx.Commit()
		committed = err == nil
		return err
	}
	_ = withTx
}
