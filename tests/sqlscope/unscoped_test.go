package sqlscope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dbscope/dbscope"
)

// Whoever asks for a transaction gets one, or an error, but never statements on their
// own, of which half may be stored.
func TestWhatIsATransactionNeverRunsWithoutOneThoughStatementsMay(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ctx := t.Context()
		called := func(context.Context) error {
			t.Error("it was called")
			return nil
		}
		_, err := d.handle(ctx)
		is(t, err, dbscope.ErrNoScope)
		for _, mode := range [][]dbscope.AtomicOption{nil, {dbscope.CommitOpen}, {dbscope.RollbackOpen}, {dbscope.ContinueOpen}, {dbscope.RefuseOpen}} {
			is(t, d.Atomic(ctx, called, mode...), dbscope.ErrNoScope)
		}
		for _, refused := range []error{
			d.Commit(ctx), d.Rollback(ctx), d.Release(ctx), d.BeforeCommit(ctx, called), d.AfterCommit(ctx, called),
			d.AfterRollback(ctx, called), dbscope.MarkRollback(ctx),
		} {
			is(t, refused, dbscope.ErrNoScope)
		}
		is(t, dbscope.Join(ctx, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			ok(t, dbscope.Join(ctx, func(ctx context.Context) error { return insert(ctx, d, 2) }))
			want(t, "stored before the end", d.stored(t))
			return errStop
		}), errStop)
		want(t, "stored of what failed", d.stored(t))
		err = dbscope.Join(ctx, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 3))
			_ = dbscope.Join(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, d, 4), errStop) })
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, errStop)
		want(t, "stored of what failed in part", d.stored(t))
		ok(t, dbscope.Join(ctx, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 5))
			return d.Atomic(ctx, func(ctx context.Context) error { return insert(ctx, d, 6) })
		}))
		want(t, "stored", d.stored(t), 5, 6)
	}, dbscope.AllowUnscoped())
}
