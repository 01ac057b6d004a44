package pgxscope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestTheAdapterPassesTheSuite(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			conform(t, func(t *testing.T, opts ...dbscope.DBOption) *opened { return open(t, mode, opts...) })
		})
	}
}

func conform(t *testing.T, open func(t *testing.T, opts ...dbscope.DBOption) *opened) {
	drivertest.Run(t, drivertest.Harness[pgx.Tx]{
		Open: func(t *testing.T, opts ...dbscope.DBOption) drivertest.Database[pgx.Tx] {
			o := open(t, opts...)
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
		Commit:   func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
		Rollback: func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) },
		Setting: func(ctx context.Context, tx pgx.Tx, name string) (value string, err error) {
			err = tx.QueryRow(ctx, "SELECT coalesce(current_setting($1, true), '')", name).Scan(&value)
			return value, err
		},
		RefusalAborts: true,
		ReadOnly:      true,
	})
}
