package drivertest_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestTheFakePassesTheSuite(t *testing.T) {
	var fake *drivertest.Fake // of the test that runs
	drivertest.Run(t, drivertest.Harness[*drivertest.Tx]{
		Open: func(t *testing.T, opts ...dbscope.DBOption) drivertest.Database[*drivertest.Tx] {
			f := drivertest.NewFake()
			fake = f
			db := f.DB(opts...)
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			return drivertest.Database[*drivertest.Tx]{DB: db, Stored: func() []int { return ids(t, f) }, InUse: f.Open, Dialed: func() int { return 0 }, BeginOther: f.BeginOther}
		},
		Insert: func(ctx context.Context, tx *drivertest.Tx, id int) error {
			return tx.Exec(ctx, strconv.Itoa(id))
		},
		Refused: func(ctx context.Context, tx *drivertest.Tx) error {
			fake.Inject("exec", drivertest.Fault{Err: errors.New("refused"), Fate: driver.Aborted})
			return tx.Exec(ctx, "refused")
		},
		Query: func(ctx context.Context, tx *drivertest.Tx) (next, closeRows func() error, err error) {
			rows, err := tx.Query(ctx, "all")
			if err != nil {
				return nil, nil, err
			}
			return func() error {
				_, err := rows.Next()
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}, rows.Close, nil
		},
		Commit:   func(ctx context.Context, tx *drivertest.Tx) error { return tx.Commit(ctx) },
		Rollback: func(ctx context.Context, tx *drivertest.Tx) error { return tx.Rollback(ctx) },
		Setting: func(ctx context.Context, tx *drivertest.Tx, name string) (string, error) {
			return tx.Setting(ctx, name)
		},
		RefusalAborts: true,
	})
}

func ids(t *testing.T, f *drivertest.Fake) []int {
	var all []int
	for _, row := range f.Rows() {
		id, err := strconv.Atoi(row)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}
