package pgxscope_test

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// The DB is a package variable or a field.
var shop = pgxscope.Open("postgres://app@{host}/shop?pool_max_conns=20", dbscope.Host("127.0.0.1"))

func Example() {
	ctx := context.Background()
	err := dbscope.Run(ctx, func(ctx context.Context) error {
		// BEGIN travels with this statement.
		if _, err := shop.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, "tea"); err != nil {
			return err
		}
		tx, err := shop.Session(ctx) // the pgx.Tx of the same transaction
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, "tea")
		return err
	})
	fmt.Println(err)
}
