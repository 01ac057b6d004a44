package pgxscope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestTheAdapterPassesTheSuite(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) { conform(t, func(t *testing.T) *opened { return open(t, mode) }) })
	}
}

func conform(t *testing.T, open func(t *testing.T) *opened) {
	drivertest.Run(t, drivertest.Harness[pgx.Tx]{
		Open: func(t *testing.T) drivertest.Database[pgx.Tx] {
			o := open(t)
			return drivertest.Database[pgx.Tx]{
				DB:     o.DB.DB,
				Stored: func() []int { return o.stored(t) },
				InUse:  func() int { return o.inUse(t) },
				Dialed: func() int { return int(o.dialed.Load()) },
				BeginOther: func(ctx context.Context) (pgx.Tx, error) {
					pool, err := o.Pool(ctx)
					ok(t, err)
					return pool.Begin(ctx)
				},
			}
		},
		Insert: func(ctx context.Context, tx pgx.Tx, id int) error { return insert(ctx, tx, id) },
		Refused: func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO nowhere VALUES ($1)", 1) // which fails to prepare
			return err
		},
		Query: func(ctx context.Context, tx pgx.Tx) (next, closeRows func() error, err error) {
			rows, err := tx.Query(ctx, "SELECT id FROM t")
			if err != nil {
				return nil, nil, err
			}
			return func() error {
				if !rows.Next() && rows.Err() == nil {
					return errors.New("no more rows")
				}
				return rows.Err()
			}, func() error { rows.Close(); return rows.Err() }, nil
		},
		Commit:        func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
		Rollback:      func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) },
		RefusalAborts: true,
		ReadOnly:      true,
	})
}
