package dbscope_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

type registering = func(context.Context, func(context.Context) error) error

func TestHooksNeedALivingScope(t *testing.T) {
	_, db := newFake(t, dbscope.AllowUnscoped())
	ended, scope := dbscope.Begin(t.Context())
	ok(t, scope.End(ended))
	for _, register := range []registering{
		dbscope.BeforeCommit, dbscope.AfterCommit, dbscope.AfterRollback,
		db.BeforeCommit, db.AfterCommit, db.AfterRollback,
	} {
		hook := func(context.Context) error { t.Error("a refused hook ran"); return nil }
		is(t, register(t.Context(), hook), dbscope.ErrNoScope)
		is(t, register(dbscope.WithoutScope(ended), hook), dbscope.ErrNoScope)
		is(t, register(ended, hook), dbscope.ErrScopeEnded)
	}
}

// And not when it is too late, far from the call.
func TestAHookThatIsNilIsRefusedAtOnce(t *testing.T) {
	_, db := newFake(t)
	type hook = func(context.Context) error
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		for name, register := range map[string]func(context.Context, hook) error{
			"BeforeCommit": dbscope.BeforeCommit, "AfterCommit": dbscope.AfterCommit, "AfterRollback": dbscope.AfterRollback,
			"DB.BeforeCommit": db.BeforeCommit, "DB.AfterCommit": db.AfterCommit, "DB.AfterRollback": db.AfterRollback,
		} {
			if register(ctx, nil) == nil {
				t.Errorf("%s takes nil", name)
			}
		}
		return nil
	}))
}

func TestHooksAloneDoNoInputOrOutput(t *testing.T) {
	f, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		j.watch(ctx, t, "scope")
		j.watch(ctx, t, "db", db)
		return nil
	}))
	equal(t, "hooks", j.take(), "scope before", "scope committed", "db committed")
	equal(t, "calls", f.Log())
}

func TestHooksAreRegisteredSafelyByManyAtOnceAndRunOnceEach(t *testing.T) {
	_, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { j.watch(ctx, t, "scope") })
			wg.Go(func() { j.watch(ctx, t, "db", db) })
		}
		wg.Wait()
		exec(ctx, t, db, "a")
		return nil
	}))
	if got := j.take(); len(got) != 200 {
		t.Errorf("%d hooks ran, want 200: %v", len(got), got)
	}
}

// The pool of one connection shows that the scope's is back meanwhile.
func TestEachCommitOfAScopeRunsTheHooksRegisteredSinceTheLast(t *testing.T) {
	f, db := newFake(t)
	f.LimitConns(1)
	var j journal
	ctx, scope := dbscope.Begin(t.Context())
	for _, name := range []string{"first", "second"} {
		exec(ctx, t, db, name)
		j.watch(ctx, t, name)
		j.watch(ctx, t, name+"'s db", db)
		ok(t, dbscope.AfterCommit(ctx, func(ctx context.Context) error {
			if n := f.Open(); n != 0 {
				t.Errorf("%d connections are out", n)
			}
			return drivertest.Exec(ctx, db, name+" hook")
		}))
		ok(t, scope.Commit(ctx))
		equal(t, "hooks", j.take(), name+" before", name+"'s db before", name+" committed", name+"'s db committed")
	}
	j.watch(ctx, t, "third")
	ok(t, scope.Rollback(ctx))
	equal(t, "hooks", j.take(), "third undone")
	ok(t, scope.End(ctx))
	equal(t, "hooks", j.take())
	equal(t, "rows", f.Rows(), "first", "first hook", "second", "second hook")
}

// Of the DB that is ended early the hooks run now, the others when their time
// comes.
func TestAnEarlyEndRunsTheHooksOfItsDatabaseAtOnce(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	handle := func(ctx context.Context, db DB) *drivertest.Tx {
		tx, err := db.Session(ctx)
		ok(t, err)
		return tx
	}
	committed, undone := []string{"one before", "one committed"}, []string{"one undone"}
	for name, c := range map[string]struct {
		end  func(context.Context, DB) error
		want []string
	}{
		"Commit":              {func(ctx context.Context, db DB) error { return db.Commit(ctx) }, committed},
		"Rollback":            {func(ctx context.Context, db DB) error { return db.Rollback(ctx) }, undone},
		"Release":             {func(ctx context.Context, db DB) error { return db.Release(ctx) }, undone},
		"the handle's commit": {func(ctx context.Context, db DB) error { return handle(ctx, db).Commit(ctx) }, committed},
		"the handle's undo":   {func(ctx context.Context, db DB) error { return handle(ctx, db).Rollback(ctx) }, undone},
		"CommitOpen": {func(ctx context.Context, db DB) error {
			return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.CommitOpen)
		}, committed},
	} {
		f, one := newFake(t)
		two, sibling := f.DB(), one.Sibling("s")
		var j journal
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, one, "1")
			exec(ctx, t, two, "2")
			exec(ctx, t, sibling, "s")
			j.watch(ctx, t, "scope")
			j.watch(ctx, t, "one", one)
			j.watch(ctx, t, "two", two)
			j.watch(ctx, t, "sibling", sibling)
			ok(t, c.end(ctx, one))
			equal(t, name, j.take(), c.want...)
			j.watch(ctx, t, "later", one) // of the transaction to come
			equal(t, name, j.take())
			exec(ctx, t, one, "3")
			return nil
		}))
		equal(t, name, j.take(), "scope before", "two before", "sibling before", "later before",
			"scope committed", "two committed", "sibling committed", "later committed")
	}
}

func TestAnEarlyEndWithNothingOpenLeavesTheHooksToTheNextTransaction(t *testing.T) {
	f, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		j.watch(ctx, t, "first", db)
		ok(t, db.Commit(ctx))
		j.watch(ctx, t, "second", db)
		ok(t, db.Rollback(ctx))
		return nil
	}))
	equal(t, "hooks", j.take(), "first committed", "second committed")
	equal(t, "calls", f.Log())
}

// Of a scope counts what is open at its end.
func TestWhatWasEndedEarlyDoesNotCountForTheHooksOfTheScope(t *testing.T) {
	_, db := newFake(t)
	var j journal
	for _, last := range []error{errStop, nil} {
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "early")
			j.watch(ctx, t, "scope")
			if last != nil {
				ok(t, db.Commit(ctx))
			} else {
				ok(t, db.Rollback(ctx))
			}
			exec(ctx, t, db, "late")
			return last
		}), last)
	}
	equal(t, "hooks", j.take(), "scope undone", "scope before", "scope committed")
}

// The scope and other databases go on.
func TestABeforeCommitErrorOfADatabaseUndoesItsEarlyCommitOnly(t *testing.T) {
	f, one := newFake(t)
	two := f.DB()
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, one, "1")
		exec(ctx, t, two, "2")
		ok(t, one.BeforeCommit(ctx, func(context.Context) error { return errStop }))
		j.watch(ctx, t, "one", one)
		j.watch(ctx, t, "scope")
		err := one.Commit(ctx)
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, errStop)
		equal(t, "hooks", j.take(), "one undone")
		exec(ctx, t, one, "3")
		return nil
	}))
	equal(t, "hooks", j.take(), "scope before", "scope committed")
	equal(t, "rows", f.Rows(), "3", "2")
}

// Nobody has said that it may be committed.
func TestAfterABeforeCommitHookThatPanickedNothingIsCommittedThoughFnRecovers(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	for name, end := range map[string]func(context.Context, DB) error{
		"DB.Commit": func(ctx context.Context, db DB) error { return db.Commit(ctx) },
		"CommitOpen": func(ctx context.Context, db DB) error {
			return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.CommitOpen)
		},
		"Scope.Commit": func(ctx context.Context, _ DB) error {
			s, _ := dbscope.FromContext(ctx)
			return s.Commit(ctx)
		},
	} {
		f, db := newFake(t)
		var j journal
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			ok(t, db.AfterCommit(ctx, j.hook("committed")))
			ok(t, db.AfterRollback(ctx, j.hook("undone")))
			ok(t, db.BeforeCommit(ctx, func(context.Context) error { panic("hook") }))
			func() {
				defer func() { _ = recover() }()
				_ = end(ctx, db)
			}()
			return nil
		})
		if !errors.Is(err, dbscope.ErrRolledBack) {
			t.Errorf("%s: the error is %v", name, err)
		}
		equal(t, name, f.Rows())
		equal(t, name, j.take(), "undone")
	}
}

func TestABeforeCommitHookOfADatabaseIsPartOfItsEarlyCommit(t *testing.T) {
	f, db := newFake(t)
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		hook := func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") }
		ok(t, db.BeforeCommit(ctx, hook))
		exec(ctx, t, db, "a")
		ok(t, db.Commit(ctx))
		ok(t, db.Atomic(ctx, func(ctx context.Context) error {
			return errors.Join(db.BeforeCommit(ctx, hook), drivertest.Exec(ctx, db, "b"))
		}))
		return errStop
	}), errStop)
	equal(t, "rows", f.Rows(), "a", "hook", "b", "hook")
}

func TestAnEarlyCommitOfABrokenOrMarkedTransactionRunsItsRollbackHooks(t *testing.T) {
	f, db := newFake(t)
	var j journal
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
		is(t, drivertest.Exec(ctx, db, "a"), errStop)
		j.watch(ctx, t, "broken", db)
		is(t, db.Commit(ctx), dbscope.ErrRolledBack)
		equal(t, "hooks", j.take(), "broken undone")
		ok(t, dbscope.MarkRollback(ctx))
		exec(ctx, t, db, "b")
		j.watch(ctx, t, "marked", db)
		is(t, db.Commit(ctx), dbscope.ErrRollbackOnly)
		equal(t, "hooks", j.take(), "marked undone")
		return nil
	}), dbscope.ErrRollbackOnly)
	equal(t, "rows", f.Rows())
}

func TestAnEarlyCommitOfUnknownOutcomeRunsNoAfterHook(t *testing.T) {
	f, db := newFake(t)
	f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: driver.Unknown})
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		j.watch(ctx, t, "db", db)
		is(t, db.Commit(ctx), dbscope.ErrCommitUnknown)
		return nil
	}))
	equal(t, "hooks", j.take(), "db before")
}

// The databases' hooks go by the outcome of each, the scope's run where all
// have one outcome.
func TestAfterAPartialCommitHooksOfTheScopeDoNotRun(t *testing.T) {
	for outcome, want := range map[driver.Outcome][]string{
		driver.RolledBack: {"one committed", "two undone", "three undone"},
		driver.Unknown:    {"one committed", "three undone"},
	} {
		f, one := newFake(t)
		two, three := f.DB(), f.DB()
		var j journal
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, one, "1")
			exec(ctx, t, two, "2")
			exec(ctx, t, three, "3")
			ok(t, dbscope.AfterCommit(ctx, j.hook("scope committed")))
			ok(t, dbscope.AfterRollback(ctx, j.hook("scope undone")))
			j.watch(ctx, t, "one", one)
			j.watch(ctx, t, "two", two)
			j.watch(ctx, t, "three", three)
			f.Inject("commit", drivertest.Fault{})
			f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: outcome})
			return nil
		}), errStop)
		equal(t, outcome.String(), j.take(), append([]string{"one before", "two before", "three before"}, want...)...)
		equal(t, "rows", f.Rows(), "1")
	}
}

func TestWhereTheFirstOfSeveralCommitsFailsEverythingWasUndone(t *testing.T) {
	f, one := newFake(t)
	two := f.DB()
	var j journal
	f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: driver.RolledBack})
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, one, "1")
		exec(ctx, t, two, "2")
		j.watch(ctx, t, "scope")
		j.watch(ctx, t, "two", two)
		return nil
	}), errStop)
	equal(t, "hooks", j.take(), "scope before", "two before", "scope undone", "two undone")
}
