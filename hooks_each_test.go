package dbscope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// R13.
func TestTheHookOfADBRunsOnceBeforeEachCommitOfATransaction(t *testing.T) {
	var db *dbscope.DB[*drivertest.Tx]
	f, db := newFake(t, dbscope.BeforeEachCommit(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "audit") }))
	for name, c := range map[string]struct {
		unit func(ctx context.Context) error
		want []string
	}{
		"nothing is open": {func(context.Context) error { return nil }, nil},
		"one transaction": {func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }, []string{"a", "audit"}},
		"it comes after the hooks of the unit": {func(ctx context.Context) error {
			return errors.Join(
				db.BeforeCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook of the DB") }),
				dbscope.BeforeCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") }),
				drivertest.Exec(ctx, db, "a"))
		}, []string{"a", "hook of the DB", "hook", "audit"}},
		"a hook opens it": {func(ctx context.Context) error {
			return dbscope.BeforeCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") })
		}, []string{"hook", "audit"}},
		"an early commit, and what follows it": {func(ctx context.Context) error {
			return errors.Join(drivertest.Exec(ctx, db, "a"), db.Commit(ctx), db.Commit(ctx), drivertest.Exec(ctx, db, "b"))
		}, []string{"a", "audit", "b", "audit"}},
		"an early rollback": {func(ctx context.Context) error {
			return errors.Join(drivertest.Exec(ctx, db, "a"), db.Rollback(ctx))
		}, nil},
		"a block's own transaction, and a savepoint": {func(ctx context.Context) error {
			return errors.Join(
				db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }),
				drivertest.Exec(ctx, db, "b"),
				db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "c") }))
		}, []string{"a", "audit", "b", "c", "audit"}},
		"a block that is undone first": {func(ctx context.Context) error {
			return db.Atomic(ctx, func(ctx context.Context) error {
				_ = db.Atomic(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "a"), errBroken) })
				return drivertest.Exec(ctx, db, "b")
			})
		}, []string{"b", "audit"}},
		"a handle's commit": {func(ctx context.Context) error {
			tx, err := db.Session(ctx)
			return errors.Join(err, drivertest.Exec(ctx, db, "a"), tx.Commit(ctx))
		}, []string{"a", "audit"}},
		"Detached": {func(ctx context.Context) error {
			return db.Detached(ctx, func(ctx context.Context, _ *drivertest.Tx) error { return drivertest.Exec(ctx, db, "a") })
		}, []string{"a", "audit"}},
		"a Group": {func(ctx context.Context) error {
			g := dbscope.NewGroup(ctx)
			g.CommitTogether()
			g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
			return g.Wait()
		}, []string{"a", "audit"}},
	} {
		before := len(f.Rows())
		ok(t, dbscope.Run(t.Context(), c.unit))
		equal(t, name, f.Rows()[before:], c.want...)
	}
}

func TestTheHookOfADBPreventsTheCommit(t *testing.T) {
	f, db := newFake(t, dbscope.BeforeEachCommit(func(context.Context) error { return errStop }))
	g, other := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, other, "a")
		exec(ctx, t, db, "a")
		return nil
	})
	is(t, err, errStop)
	is(t, err, dbscope.ErrRolledBack)
	equal(t, "stored", append(f.Rows(), g.Rows()...))
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		return db.Commit(ctx)
	}), errStop)
	equal(t, "stored", f.Rows())
}

func TestTheHookOfADBIsThatOfItsSiblings(t *testing.T) {
	calls := 0
	_, db := newFake(t, dbscope.BeforeEachCommit(func(context.Context) error { calls++; return nil }))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		exec(ctx, t, db.Sibling("audit"), "b")
		return nil
	}))
	if calls != 2 {
		t.Errorf("it was called %d times for two transactions", calls)
	}
}
