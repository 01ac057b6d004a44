package pgxscope_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
)

func TestResultsLeftOpenDoNotHoldAnEndWhateverTheirSize(t *testing.T) {
	const huge = "SELECT generate_series(1, 10000000000)"
	batch := func(d *opened, ctx context.Context) pgx.BatchResults {
		b := &pgx.Batch{}
		b.Queue(huge)
		b.Queue("INSERT INTO t (id) VALUES (3)")
		return d.SendBatch(ctx, b)
	}
	for name, leave := range map[string]func(ctx context.Context, d *opened) error{
		"rows": func(ctx context.Context, d *opened) error {
			rows, err := d.Query(ctx, huge)
			if err == nil && !rows.Next() {
				err = errors.New("no row")
			}
			return err
		},
		"a batch": func(ctx context.Context, d *opened) error {
			batch(d, ctx)
			return nil
		},
		"the rows of a batch": func(ctx context.Context, d *opened) error {
			rows, err := batch(d, ctx).Query()
			if err == nil && !rows.Next() {
				err = errors.New("no row")
			}
			return err
		},
		"rows of a handle nested": func(ctx context.Context, d *opened) error {
			tx, err := d.Session(ctx)
			ok(t, err)
			nested, err := tx.Begin(ctx)
			ok(t, err)
			_, err = nested.Query(ctx, huge)
			ok(t, err)
			is(t, nested.Commit(ctx), dbscope.ErrRolledBack)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, pgx.QueryExecModeCacheStatement)
			for id, early := range []bool{false, true} { // another row, since the server may keep its lock for a moment
				done := make(chan error, 1)
				go func() {
					done <- dbscope.Run(t.Context(), func(ctx context.Context) error {
						if err := errors.Join(insert(ctx, d, id), leave(ctx, d)); err != nil || !early {
							return err
						}
						return d.Commit(ctx)
					}, dbscope.CommitTimeout(200*time.Millisecond))
				}()
				select {
				case err := <-done:
					is(t, err, dbscope.ErrRolledBack)
					if errors.Is(err, dbscope.ErrCommitUnknown) {
						t.Errorf("COMMIT was not sent, but the error is %v", err)
					}
				case <-time.After(25 * time.Second):
					t.Fatal("the end does not return")
				}
				want(t, "stored", d.stored(t))
			}
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }))
			want(t, "stored", d.stored(t), 2)
		})
	}
}
