package readme

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope"
)

func report(context.Context) error { return nil }

// nextReport is alone in the cluster while it runs, and has left when it returns.
func nextReport(ctx context.Context) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		var alone bool
		err := orders.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", 4711).Scan(&alone)
		if err != nil || !alone {
			return err
		}
		return report(ctx)
	}, dbscope.ReadOnly(), dbscope.AwaitEnd())
}

// place stores an order in two round trips: the check, and the rest.
func place(ctx context.Context, item, n int) error {
	var left int
	err := orders.QueryRow(ctx, "SELECT left_over FROM stock WHERE item = $1 FOR UPDATE", item).Scan(&left)
	if err != nil {
		return err
	}
	if left < n {
		return fmt.Errorf("only %d of item %d are left", left, item)
	}
	_, err = orders.ExecCommit(ctx, `WITH taken AS (UPDATE stock SET left_over = left_over - $2 WHERE item = $1)
		INSERT INTO orders (item, n) VALUES ($1, $2)`, item, n)
	return err
}

var _, _ = nextReport, place
