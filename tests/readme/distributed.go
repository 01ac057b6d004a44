package readme

import (
	"context"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// CockroachDB or YugabyteDB: one address that is balanced over the nodes.
var everywhere = pgxscope.Open("postgres://app@nodes.example:26257/shop", dbscope.SettleByLedger())

// TiDB, or Vitess' vtgate.
var sharded = sqlscope.Open("mysql", "app@tcp(vtgate.example:3306)/shop", dbscope.SettleByLedger())

// move is run again, as a whole, when the nodes cannot agree on an order (40001).
func move(ctx context.Context, from, to string, amount int) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		if _, err := everywhere.Exec(ctx, "UPDATE accounts SET amount = amount - $1 WHERE id = $2", amount, from); err != nil {
			return err
		}
		_, err := everywhere.Exec(ctx, "UPDATE accounts SET amount = amount + $1 WHERE id = $2", amount, to)
		return err
	}, dbscope.Retry(dbscope.RetryPolicy{}))
}

var _, _ = sharded, move
