package dbscope_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestTwoWhoCommitAtOnceWithHooksWaitForEachOther(t *testing.T) {
	for name, second := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx]) error{
		"DB.Commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error { return db.Commit(ctx) },
		"Scope.Commit": func(ctx context.Context, _ *dbscope.DB[*drivertest.Tx]) error {
			s, _ := dbscope.FromContext(ctx)
			return s.Commit(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t)
			entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			f.Inject("commit", drivertest.Fault{Entered: entered, Until: until})
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				tx, err := db.Session(ctx)
				ok(t, err)
				ok(t, db.AfterCommit(ctx, func(context.Context) error { return nil }))
				go func() { done <- tx.Commit(ctx) }()
				<-entered
				time.AfterFunc(10*time.Millisecond, func() { close(until) })
				if err := errors.Join(second(ctx, db), <-done); err != nil {
					t.Error(err)
				}
				is(t, tx.Exec(ctx, "b"), sql.ErrTxDone)
				return nil
			}))
			equal(t, "rows", f.Rows(), "a")
		})
	}
}

func TestRegisteringAHookWhileABlockEndsDoesNotBlock(t *testing.T) {
	_, db := newFake(t)
	nop := func(context.Context) error { return nil }
	for range 200 {
		_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
			return db.Atomic(ctx, func(ctx context.Context) error {
				var wg sync.WaitGroup
				wg.Go(func() {
					for range 200 {
						_ = db.AfterCommit(ctx, nop)
					}
				})
				for range 20 {
					ok(t, db.Atomic(ctx, func(ctx context.Context) error {
						return errors.Join(dbscope.AfterCommit(ctx, nop), dbscope.AfterCommit(ctx, nop))
					}))
				}
				wg.Wait()
				return errStop
			})
		})
	}
}

func TestAnEarlyCommitThatRacesWithTheEndRunsTheHooksOfItsOutcome(t *testing.T) {
	for range 1000 {
		f, db := newFake(t)
		entered, until, early := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		f.Inject("commit", drivertest.Fault{Entered: entered, Until: until})
		ctx, scope := dbscope.Begin(t.Context())
		exec(ctx, t, db, "a")
		ok(t, db.AfterRollback(ctx, func(context.Context) error { t.Error("it was committed"); return nil }))
		go func() { early <- db.Commit(ctx) }()
		<-entered
		time.AfterFunc(10*time.Microsecond, func() { close(until) })
		ok(t, scope.End(ctx))
		ok(t, <-early)
	}
}

func TestTogetherOneThatWaitsForTheConnectionOfOneThatIsDoneLaterWaitsABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		f.LimitConns(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		g := dbscope.NewGroup(ctx)
		g.CommitTogether()
		for range 2 {
			g.Go(func(ctx context.Context) error {
				defer time.Sleep(time.Second)
				return drivertest.Exec(ctx, db, "a")
			})
		}
		is(t, g.Wait(), context.DeadlineExceeded)
		if d := time.Since(start); d > time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

func TestTogetherABeforeCommitHookThatWaitsForAnothersConnectionWaitsABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		f.LimitConns(1)
		use := func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }
		g := together(t.Context())
		g.Go(func(ctx context.Context) error { return dbscope.BeforeCommit(ctx, use) })
		g.Go(use)
		is(t, g.Wait(), context.DeadlineExceeded)
	})
}

func TestAnEarlyCommitThatIsRefusedAsBusyKeepsItsHooks(t *testing.T) {
	f, db := newFake(t)
	entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, db.BeforeCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") }))
		f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
		go func() { done <- drivertest.Exec(ctx, db, "a") }()
		<-entered
		is(t, db.Commit(ctx), dbscope.ErrSessionBusy)
		close(until)
		return <-done
	}))
	equal(t, "rows", f.Rows(), "a", "hook")
}

func TestManyAttemptsWithLongWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, db := newFake(t)
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := db.Session(ctx)
			return errors.Join(err, drivertest.ErrTransient)
		}, dbscope.Retry(dbscope.RetryPolicy{Attempts: 40, MinDelay: time.Minute, MaxDelay: time.Hour})), drivertest.ErrTransient)
	})
}

func TestADatabaseThatWasOnlyLookedAtDoesNotHideThatAllWasUndone(t *testing.T) {
	f, idle := newFake(t)
	db := f.DB()
	f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: driver.RolledBack})
	var j journal
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := idle.Session(ctx)
		ok(t, err)
		exec(ctx, t, db, "a")
		return dbscope.AfterRollback(ctx, j.hook("undone"))
	}), errStop)
	equal(t, "hooks", j.take(), "undone")
}

func TestTogetherAnAfterHookThatEndsItsGoroutineDoesNotStopThoseOfOthers(t *testing.T) {
	var j journal
	survive(func() {
		g := together(t.Context(), dbscope.OnHookError(func(context.Context, error) {}))
		for range 2 {
			g.Go(func(ctx context.Context) error {
				return dbscope.AfterCommit(ctx, func(context.Context) error { j.note("ran"); runtime.Goexit(); return nil })
			})
		}
		_ = g.Wait()
	})
	equal(t, "hooks", j.take(), "ran", "ran")
}

func TestWaitKeepsWhatWentWrongBesideACancellation(t *testing.T) {
	f, db := newFake(t)
	f.Inject("rollback", drivertest.Fault{Err: errBroken})
	ready := make(chan struct{})
	g := dbscope.NewGroup(t.Context())
	g.Go(func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		close(ready)
		<-ctx.Done()
		return ctx.Err()
	})
	g.Go(func(context.Context) error { <-ready; return errStop })
	err := g.Wait()
	is(t, err, errStop)
	is(t, err, errBroken)
}

type withDetails struct{ details any }

func (withDetails) Error() string { return "with details" }

func TestWaitReturnsErrorsThatCannotBeCompared(t *testing.T) {
	g := dbscope.NewGroup(t.Context())
	for i := range 2 {
		g.Go(func(context.Context) error { return withDetails{[]int{i}} })
	}
	if err := g.Wait(); !errors.As(err, new(withDetails)) {
		t.Errorf("the error is %v", err)
	}
}

func TestWaitKeepsAnErrorThatIsOfTheSameKindAsTheFirst(t *testing.T) {
	ready := make(chan struct{})
	g := dbscope.NewGroup(t.Context())
	g.Go(func(context.Context) error { defer close(ready); return errStop })
	g.Go(func(ctx context.Context) error { <-ready; <-ctx.Done(); return errors.Join(errStop, errBroken) })
	is(t, g.Wait(), errBroken)
}

func TestAnEarlyAfterHookFindsTheConnectionBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		f.LimitConns(1)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			return db.Atomic(ctx, func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				return db.AfterCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") })
			})
		}, dbscope.OnHookError(func(_ context.Context, err error) { t.Error(err) })))
		equal(t, "rows", f.Rows(), "a", "hook")
	})
}

func TestAnErrorOfFnAfterAnEarlyRollbackIsNotRunAgain(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	n := 0
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		n++
		_ = drivertest.Exec(ctx, db, "a")
		ok(t, db.Rollback(ctx))
		exec(ctx, t, db, "b")
		return errStop
	}, quickly), errStop)
	if n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestAMarkedUnitIsNotRunAgain(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	n := 0
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		n++
		_ = drivertest.Exec(ctx, db, "a")
		return dbscope.MarkRollback(ctx)
	}, quickly), dbscope.ErrRollbackOnly)
	if n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestBeforeCommitHooksDoNotRunWhereClosingRowsBrokeTheTransaction(t *testing.T) {
	f, db := newFake(t)
	var j journal
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		tx, err := db.Session(ctx)
		ok(t, err)
		_, err = tx.Query(ctx, "all")
		ok(t, err)
		f.Inject("rows close", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
		return dbscope.BeforeCommit(ctx, j.hook("before"))
	})
	is(t, err, errStop)
	equal(t, "hooks", j.take())
}

func TestABlockWhoseContextEndedInsideAnAtomicBlockTellsTheCause(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		inner, cancel := context.WithCancel(ctx)
		_, err := drivertest.Begin(inner, db)
		ok(t, err)
		is(t, db.Atomic(inner, func(ctx context.Context) error {
			exec(ctx, t, db, "lost")
			cancel()
			return nil
		}), context.Canceled)
		exec(ctx, t, db, "kept")
		return nil
	}))
	equal(t, "stored", f.Rows(), "kept")
}

// As database/sql does.
func TestAHookOfACommitByTheHandleHasTheValuesOfItsScope(t *testing.T) {
	type key struct{}
	_, db := newFake(t)
	seen := 0
	look := func(ctx context.Context) error {
		if ctx.Value(key{}) != nil {
			seen++
		}
		return drivertest.Exec(ctx, db, "of the hook")
	}
	ok(t, dbscope.Run(context.WithValue(t.Context(), key{}, "value"), func(ctx context.Context) error {
		exec(ctx, t, db, "row")
		ok(t, errors.Join(db.BeforeCommit(ctx, look), db.AfterCommit(ctx, look)))
		tx, err := db.Session(ctx)
		ok(t, err)
		return tx.Commit(context.Background())
	}))
	if seen != 2 {
		t.Errorf("%d hooks saw the value", seen)
	}
}

func TestAtomicBesideAnotherIsRefusedOrDone(t *testing.T) {
	for range 200 {
		f, db := newFake(t)
		var done atomic.Int64
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					err := db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
					if err == nil {
						done.Add(1)
					} else if !errors.Is(err, dbscope.ErrSessionBusy) {
						t.Errorf("error is %v", err)
					}
				})
			}
			wg.Wait()
			return nil
		}))
		if n := len(f.Rows()); n != int(done.Load()) {
			t.Errorf("%d rows of %d blocks", n, done.Load())
		}
	}
}

func TestACommitAndARollbackMayMeet(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := dbscope.Begin(t.Context())
	exec(ctx, t, db, "a")
	entered, release := make(chan struct{}), make(chan struct{})
	f.Inject("commit", drivertest.Fault{Entered: entered, Until: release})
	var both sync.WaitGroup
	both.Go(func() {
		if err := scope.Commit(ctx); err != nil {
			t.Errorf("Commit returned %v", err)
		}
	})
	<-entered
	both.Go(func() {
		if err := scope.Rollback(ctx); err != nil {
			t.Errorf("Rollback returned %v", err)
		}
	})
	close(release)
	both.Wait()
	ok(t, scope.End(ctx))
	equal(t, "stored", f.Rows(), "a")
}

// What a goroutine asks for that the unit does not wait for is done, or refused.
func TestWhatIsAskedForAsAUnitEndsCountsOrIsRefused(t *testing.T) {
	for range 1000 {
		_, db := newFake(t)
		marked, registered, ran := make(chan error, 1), make(chan error, 1), false
		unit := func(ask func(ctx context.Context)) error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				go ask(ctx)
				return nil
			})
		}
		err := unit(func(ctx context.Context) { marked <- dbscope.MarkRollback(ctx) })
		if asked := <-marked; !errors.Is(err, dbscope.ErrRollbackOnly) {
			ok(t, err)
			is(t, asked, dbscope.ErrScopeEnded)
		}
		err = unit(func(ctx context.Context) {
			registered <- dbscope.BeforeCommit(ctx, func(context.Context) error { ran = true; return nil })
		})
		ok(t, err)
		if asked := <-registered; !ran {
			is(t, asked, dbscope.ErrScopeEnded)
		}
	}
}
