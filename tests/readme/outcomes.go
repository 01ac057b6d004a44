package readme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

func sell(ctx context.Context, item string) error {
	err := dbscope.Run(ctx, func(ctx context.Context) error { return placeOrder(ctx, item) })
	var failed *dbscope.CommitError
	switch {
	case errors.Is(err, dbscope.ErrCommitUnknown):
		return fmt.Errorf("look whether %q was sold before you sell it again: %w", item, err)
	case errors.As(err, &failed):
		for _, o := range failed.Outcomes {
			slog.ErrorContext(ctx, "a commit failed", "database", o.DB, "state", o.State, "error", o.Err)
		}
	}
	return err
}

// PostgreSQL: nothing to prepare.
var orders = pgxscope.Open("postgres://app@127.0.0.1/orders", dbscope.SettleByStatus())

// Any database: a table, and somebody who empties it.
var books = sqlscope.Open("sqlite", "books.db", dbscope.SettleByLedger())

// Once, with the other migrations.
func createLedger(ctx context.Context) error {
	pool, err := books.Engine(ctx)
	if err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, dbscope.LedgerTable)
	return err
}

func everyHour(ctx context.Context) error {
	return books.PurgeLedger(ctx, 24*time.Hour)
}

var _, _, _, _ = sell, orders, createLedger, everyHour
