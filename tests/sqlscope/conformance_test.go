package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestTheAdapterPassesTheSuite(t *testing.T) {
	for name, d := range bySqlscope() {
		t.Run(name, func(t *testing.T) { passesTheSuite(t, d) })
	}
}

func passesTheSuite(t *testing.T, d database) {
	setting := currentSetting
	if !d.postgres {
		setting = nil
	}
	drivertest.Run(t, drivertest.Harness[*sql.Tx]{
		Open: func(t *testing.T, opts ...dbscope.DBOption) drivertest.Database[*sql.Tx] {
			o := open(t, d, opts...)
			return drivertest.Database[*sql.Tx]{
				DB:     o.scoped.(overSQL).DB.DB,
				Stored: func() []int { return o.stored(t) },
				InUse:  func() int { return o.inUse(t) },
				Dialed: func() int { return int(o.dialed.Load()) },
				BeginOther: func(ctx context.Context) (*sql.Tx, error) {
					pool, err := o.scoped.(overSQL).Engine(ctx)
					ok(t, err)
					return pool.BeginTx(ctx, nil)
				},
			}
		},
		Insert:  func(ctx context.Context, tx *sql.Tx, id int) error { return insert(ctx, tx, id) },
		Refused: refused,
		Query: func(ctx context.Context, tx *sql.Tx) (next, closeRows func() error, err error) {
			rows, err := tx.QueryContext(ctx, "SELECT id FROM t")
			if err != nil {
				return nil, nil, err
			}
			return func() error {
				if !rows.Next() && rows.Err() == nil {
					return errors.New("no more rows")
				}
				return rows.Err()
			}, rows.Close, rows.Err()
		},
		Commit:        func(_ context.Context, tx *sql.Tx) error { return tx.Commit() },
		Rollback:      func(_ context.Context, tx *sql.Tx) error { return tx.Rollback() },
		Setting:       setting,
		RefusalAborts: d.postgres,
		ReadOnly:      d.postgres || d.ofMySQL,
	})
}

func currentSetting(ctx context.Context, tx *sql.Tx, name string) (value string, err error) {
	err = tx.QueryRowContext(ctx, "SELECT coalesce(current_setting('"+name+"', true), '')").Scan(&value)
	return value, err
}

func refused(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO nowhere VALUES (1)")
	return err
}
