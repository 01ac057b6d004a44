package dbscope_test

import (
	"context"
	"slices"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// connecting is a hook that shows in the log of calls, since it connects.
func connecting(db *dbscope.DB[*drivertest.Tx], j *journal, line string) func(context.Context) error {
	return func(ctx context.Context) error {
		j.note(line)
		return drivertest.Exec(ctx, db, line)
	}
}

func TestBeforeTheCommitOfADatabaseThatHasNothingOpenNoHookOfItRuns(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	type fn = func(context.Context, *testing.T, DB, *journal)
	register := func(ctx context.Context, t *testing.T, db DB, j *journal) {
		ok(t, db.BeforeCommit(ctx, connecting(db, j, "hook")))
	}
	undone := func(ctx context.Context, t *testing.T, db DB) {
		exec(ctx, t, db, "undone")
		ok(t, db.Rollback(ctx))
	}
	for name, unit := range map[string]fn{
		"nothing at all": register,
		"a transaction that was undone before": func(ctx context.Context, t *testing.T, db DB, j *journal) {
			undone(ctx, t, db)
			register(ctx, t, db, j)
		},
		"a transaction that was undone after": func(ctx context.Context, t *testing.T, db DB, j *journal) {
			register(ctx, t, db, j)
			undone(ctx, t, db)
		},
		"a handle that was not used": func(ctx context.Context, t *testing.T, db DB, j *journal) {
			_, err := db.Session(ctx)
			ok(t, err)
			register(ctx, t, db, j)
		},
		"early ends of nothing": func(ctx context.Context, t *testing.T, db DB, j *journal) {
			register(ctx, t, db, j)
			ok(t, db.Commit(ctx))
			ok(t, db.Rollback(ctx))
			ok(t, db.Release(ctx))
			scope, _ := dbscope.FromContext(ctx)
			ok(t, scope.Commit(ctx))
			ok(t, scope.Rollback(ctx))
			tx, err := db.Session(ctx)
			ok(t, err)
			ok(t, tx.Commit(ctx))
		},
		"an Atomic block without a statement": func(ctx context.Context, t *testing.T, db DB, j *journal) {
			ok(t, db.Atomic(ctx, func(ctx context.Context) error {
				register(ctx, t, db, j)
				return nil
			}))
		},
		"an Atomic block in another, without a statement": func(ctx context.Context, t *testing.T, db DB, j *journal) {
			ok(t, db.Atomic(ctx, func(ctx context.Context) error {
				return db.Atomic(ctx, func(ctx context.Context) error {
					register(ctx, t, db, j)
					return nil
				})
			}))
		},
		"a nested transaction that was undone whole": func(ctx context.Context, t *testing.T, db DB, j *journal) {
			register(ctx, t, db, j)
			tx, err := db.Session(ctx)
			ok(t, err)
			nested, err := tx.Begin(ctx)
			ok(t, err)
			ok(t, nested.Exec(ctx, "undone"))
			ok(t, nested.Rollback(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t)
			other := f.DB()
			var j journal
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, other, "kept")
				unit(ctx, t, db, &j)
				return nil
			}))
			equal(t, "hooks", j.take())
			equal(t, "rows", f.Rows(), "kept")
		})
	}
}

func TestAHookOfADatabaseThatIsNotUsedMakesNoConnection(t *testing.T) {
	for name, opts := range map[string][]dbscope.Option{"writing": nil, "reading": {dbscope.ReadOnly()}} {
		f, db := newFake(t)
		var j journal
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			return db.BeforeCommit(ctx, connecting(db, &j, "hook"))
		}, opts...))
		g := dbscope.NewGroup(t.Context(), opts...)
		g.CommitTogether()
		g.Go(func(ctx context.Context) error { return db.BeforeCommit(ctx, connecting(db, &j, "hook")) })
		ok(t, g.Wait())
		equal(t, name, j.take())
		equal(t, name, f.Log())
	}
}

func TestAHookOfADatabaseThatIsNotUsedYetWaitsForItsTransaction(t *testing.T) {
	for name, between := range map[string]func(context.Context, *testing.T, *dbscope.DB[*drivertest.Tx]){
		"nothing": func(context.Context, *testing.T, *dbscope.DB[*drivertest.Tx]) {},
		"an early commit of nothing": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			ok(t, db.Commit(ctx))
		},
		"a commit of the scope": func(ctx context.Context, t *testing.T, _ *dbscope.DB[*drivertest.Tx]) {
			scope, _ := dbscope.FromContext(ctx)
			ok(t, scope.Commit(ctx))
		},
		"a rollback of the scope": func(ctx context.Context, t *testing.T, _ *dbscope.DB[*drivertest.Tx]) {
			scope, _ := dbscope.FromContext(ctx)
			ok(t, scope.Rollback(ctx))
		},
		"the end of a handle that was not used": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			tx, err := db.Session(ctx)
			ok(t, err)
			ok(t, tx.Rollback(ctx))
		},
		"an Atomic block without a statement": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			is(t, db.Atomic(ctx, func(context.Context) error { return errStop }), errStop)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t)
			f.LimitConns(1)
			var j journal
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "before")
				ok(t, db.Commit(ctx)) // so that there is a connection between two transactions
				ok(t, db.BeforeCommit(ctx, connecting(db, &j, "hook")))
				between(ctx, t, db)
				equal(t, "early", j.take())
				exec(ctx, t, db, "a")
				return nil
			}))
			equal(t, "hooks", j.take(), "hook")
			equal(t, "rows", f.Rows(), "before", "a", "hook")
		})
	}
}

func TestACommitOfTheScopeGivesAConnectionBackAlsoWhereAHookWaitsForTheNextTransaction(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		ok(t, db.Commit(ctx))
		ok(t, db.BeforeCommit(ctx, func(context.Context) error { return nil }))
		scope, _ := dbscope.FromContext(ctx)
		ok(t, scope.Commit(ctx))
		if n := f.Open(); n != 0 {
			t.Errorf("%d connections are out of the pool", n)
		}
		return nil
	}))
}

func TestAHookOfADatabaseRunsOnceAnotherHookHasOpenedItsTransaction(t *testing.T) {
	f, db := newFake(t)
	other := f.DB()
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, db.BeforeCommit(ctx, connecting(other, &j, "one")))
		ok(t, other.BeforeCommit(ctx, connecting(other, &j, "two")))
		return dbscope.BeforeCommit(ctx, connecting(db, &j, "scope"))
	}))
	equal(t, "hooks", j.take(), "scope", "one", "two")
	rows := f.Rows()
	slices.Sort(rows)
	equal(t, "rows", rows, "one", "scope", "two")
}

func TestAHookThatBelongsToAnUndoneBlockIsNotOfTheNextTransaction(t *testing.T) {
	f, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			ok(t, db.BeforeCommit(ctx, j.hook("of the block")))
			return errStop
		}), errStop)
		exec(ctx, t, db, "a")
		return nil
	}))
	equal(t, "hooks", j.take())
	equal(t, "rows", f.Rows(), "a")
}

// A statement that runs at the end begins a transaction, for all that is known.
func TestWhereAStatementIsOpeningTheTransactionItsHookRuns(t *testing.T) {
	f, db := newFake(t)
	entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f.Inject("begin", drivertest.Fault{Entered: entered, Until: until, Fate: driver.Intact})
	var j journal
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, db.BeforeCommit(ctx, func(ctx context.Context) error {
			j.note("hook")
			return drivertest.Exec(ctx, db, "hook")
		}))
		go func() { done <- drivertest.Exec(ctx, db, "a") }()
		<-entered
		return nil
	})
	close(until)
	is(t, err, dbscope.ErrSessionBusy)
	is(t, <-done, dbscope.ErrRolledBack)
	equal(t, "hooks", j.take(), "hook")
	equal(t, "rows", f.Rows())
}
