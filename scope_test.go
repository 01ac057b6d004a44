package dbscope_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

func TestAScopeThatTouchesNoDatabaseDoesNothing(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := db.Session(ctx)
		return err
	}))
	equal(t, "calls", f.Log())
}

func TestAScopeOpensOneSessionAndCommitsIt(t *testing.T) {
	f, db := newFake(t, dbscope.Host("db1"))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a", "b")
		return nil
	}))
	equal(t, "calls", f.Log(), "open db1", "acquire", "begin", "exec a", "exec b", "commit", "release")
	equal(t, "rows", f.Rows(), "a", "b")
}

func TestScopeOptionsReachBegin(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		scope, _ := middleware.ScopeOf(ctx)
		if !scope.ReadOnly() {
			t.Error("the scope does not know that it is read-only")
		}
		exec(ctx, t, db, "a")
		return nil
	}, dbscope.ReadOnly(), dbscope.Isolation(6)))
	equal(t, "calls", f.Log(), "open", "acquire", "begin read-onlySerializable", "exec a", "commit", "release")
}

// R4: what a middleware is made of.
func TestBeginCommitAndEndMakeAUnit(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := dbscope.Begin(t.Context())
	if got, found := dbscope.FromContext(ctx); !found || got != scope {
		t.Fatal("the context does not carry its scope")
	}
	exec(ctx, t, db, "a")
	ok(t, scope.Commit(ctx))
	equal(t, "rows", f.Rows(), "a")
	exec(ctx, t, db, "b")
	ok(t, scope.Rollback(ctx))
	exec(ctx, t, db, "c")
	ok(t, scope.End(ctx))
	ok(t, scope.End(ctx))
	is(t, scope.Commit(ctx), dbscope.ErrScopeEnded)
	is(t, scope.Rollback(ctx), dbscope.ErrScopeEnded)
	equal(t, "rows", f.Rows(), "a")
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "commit", "release",
		"acquire", "begin", "exec b", "rollback", "release", "acquire", "begin", "exec c", "rollback", "release")
}

func TestDetachKeepsValuesAndCancellationAndLosesTheScope(t *testing.T) {
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, 1))
	ctx, scope := begin(parent)
	detached := dbscope.WithoutScope(ctx)
	if _, found := dbscope.FromContext(detached); found {
		t.Error("the scope is still there")
	}
	cancel()
	if detached.Value(key{}) != 1 || detached.Err() == nil {
		t.Error("value or cancellation is lost")
	}
	ok(t, scope.End(ctx))
}

func TestMarkRollbackNeedsALivingScope(t *testing.T) {
	is(t, dbscope.MarkRollback(t.Context()), dbscope.ErrNoScope)
}

// R10, rule 8.
func TestDatabasesCommitInTheOrderOfFirstUse(t *testing.T) {
	f := drivertest.NewFake()
	idleConns(t, f)
	one, two := f.DB(), f.DB()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, two, "two")
		exec(ctx, t, one, "one")
		exec(ctx, t, two, "more")
		return nil
	}))
	equal(t, "rows", f.Rows(), "two", "more", "one")
}

func TestAFailedCommitTellsWhatBecameOfEachDatabase(t *testing.T) {
	f := drivertest.NewFake()
	idleConns(t, f)
	one, two, three := f.DB(dbscope.Name("one")), f.DB(dbscope.Name("two")), f.DB(dbscope.Name("three"))
	cause := errors.New("deferred constraint")
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, one, "1")
		exec(ctx, t, two, "2")
		exec(ctx, t, three, "3")
		f.Inject("commit", drivertest.Fault{})
		f.Inject("commit", drivertest.Fault{Err: cause, Outcome: driver.RolledBack})
		return nil
	})
	is(t, err, dbscope.ErrRolledBack)
	is(t, err, cause)
	var commit *dbscope.CommitError
	if !errors.As(err, &commit) {
		t.Fatalf("the error is a %T", err)
	}
	var got []string
	for _, o := range commit.Outcomes {
		got = append(got, o.DB+" "+o.State.String())
	}
	equal(t, "outcomes", got, "one committed", "two rolled back", "three rolled back")
	equal(t, "rows", f.Rows(), "1")
	if msg := err.Error(); !strings.Contains(msg, "two: rolled back (dbscope: two: the transaction was rolled back: deferred constraint)") {
		t.Errorf("the message is %q", msg)
	}
}

func TestNoDatabaseIsCommittedWhenOneCannotBe(t *testing.T) {
	f := drivertest.NewFake()
	idleConns(t, f)
	one, two := f.DB(), f.DB()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, one, "1")
		exec(ctx, t, two, "2")
		f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
		is(t, drivertest.Exec(ctx, two, "3"), errStop)
		return nil // the error is ignored
	})
	is(t, err, dbscope.ErrRolledBack)
	is(t, err, errStop)
	equal(t, "rows", f.Rows())
}

func TestADatabaseWithAnEmptyNameTellsOfItsFailedCommit(t *testing.T) {
	f, db := newFake(t, dbscope.Name(""))
	f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: driver.RolledBack})
	err := dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
	is(t, err, dbscope.ErrRolledBack)
	if !strings.Contains(err.Error(), "fake: rolled back") {
		t.Errorf("the message is %q", err)
	}
}

func TestALostAnswerToCommitIsUnknown(t *testing.T) {
	f, db := newFake(t)
	f.Inject("commit", drivertest.Fault{Err: errStop, Done: true, Outcome: driver.Unknown})
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		return nil
	})
	is(t, err, dbscope.ErrCommitUnknown)
	if errors.Is(err, dbscope.ErrRolledBack) {
		t.Error("it was called rolled back")
	}
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "commit", "discard")
}

func TestAFailedRollbackIsJoinedToTheCallersError(t *testing.T) {
	f, db := newFake(t)
	lost := errors.New("lost")
	f.Inject("rollback", drivertest.Fault{Err: lost})
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		return errStop
	})
	is(t, err, errStop)
	is(t, err, lost)
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "rollback", "discard")
}

// Rule 5.
func TestTheEndIsNotGovernedByTheCallersCancellation(t *testing.T) {
	f, db := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	block := make(chan struct{})
	f.Inject("commit", drivertest.Fault{Until: block})
	done := make(chan error)
	go func() {
		done <- dbscope.Run(ctx, func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			cancel()
			return nil
		})
	}()
	close(block)
	ok(t, <-done)
	equal(t, "rows", f.Rows(), "a")
}

func TestACommitThatHangsIsUnknownAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		f.Inject("commit", drivertest.Fault{Until: make(chan struct{})})
		start := time.Now()
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			return nil
		}, dbscope.CommitTimeout(3*time.Second))
		is(t, err, dbscope.ErrCommitUnknown)
		is(t, err, context.DeadlineExceeded)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestACommitTimeoutOfZeroIsTheDefault(t *testing.T) {
	for _, d := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			f, db := newFake(t)
			f.Inject("commit", drivertest.Fault{Until: make(chan struct{})})
			start := time.Now()
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") },
				dbscope.CommitTimeout(d)), dbscope.ErrCommitUnknown)
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// Rule 3, and defect 11.
func TestAUnitThatWaitsForItsCallersConnectionWaitsABoundedTime(t *testing.T) {
	for name, inner := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx]) error{
		"a unit in a unit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") })
		},
		"a sibling": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			sibling := db.Sibling("s")
			err := drivertest.Exec(ctx, sibling, "b")
			return errors.Join(err, sibling.Rollback(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, db := newFake(t)
				f.LimitConns(1)
				start := time.Now()
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					exec(ctx, t, db, "a")
					done := make(chan error)
					go func() { done <- inner(ctx, db) }() // so that nobody knows whether the outer unit waits for it
					err := <-done
					is(t, err, context.DeadlineExceeded)
					if !strings.Contains(err.Error(), "make the pool larger") || !strings.Contains(err.Error(), "fake") {
						t.Errorf("the message is %q", err)
					}
					return nil
				}))
				if d := time.Since(start); d != 5*time.Second {
					t.Errorf("it took %v", d)
				}
				equal(t, "rows", f.Rows(), "a")
			})
		})
	}
}

func TestUnitsThatWaitForEachOthersDatabasesDoNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dbs []*dbscope.DB[*drivertest.Tx]
		for range 3 {
			f, db := newFake(t)
			f.LimitConns(1)
			dbs = append(dbs, db)
		}
		start := time.Now()
		var refused []error
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i, db := range dbs {
			wg.Go(func() {
				if err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					exec(ctx, t, db, "a")
					time.Sleep(time.Second)
					done := make(chan error)
					go func() { done <- drivertest.Exec(ctx, dbs[(i+1)%len(dbs)], "b") }()
					return <-done // though nobody sees that it waits
				}); err != nil {
					mu.Lock()
					defer mu.Unlock()
					refused = append(refused, err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d != 6*time.Second {
			t.Errorf("it took %v", d)
		}
		if len(refused) == 0 {
			t.Error("none was refused")
		}
		for _, err := range refused {
			is(t, err, context.DeadlineExceeded)
			if !strings.Contains(err.Error(), "use the databases in the same order") {
				t.Errorf("the message is %q", err)
			}
		}
	})
}

func TestAUnitThatHoldsNothingWaitsForAConnectionAsLongAsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		f.LimitConns(1)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := dbscope.Run(dbscope.WithoutScope(ctx), func(ctx context.Context) error {
					return drivertest.Exec(ctx, db, "b")
				}); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Minute)
			ok(t, db.Commit(ctx))
			ok(t, db.Release(ctx))
			wg.Wait()
			return nil
		}))
		equal(t, "rows", f.Rows(), "a", "b")
	})
}

func TestManyUnitsAtOnceKeepTheirWorkApart(t *testing.T) {
	f, db := newFake(t)
	f.LimitConns(4)
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := drivertest.Exec(ctx, db, "row"); err != nil || i%2 == 0 {
					return errors.Join(errStop, err)
				}
				return nil
			})
			if i%2 == 1 && err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(f.Rows()); n != 500 {
		t.Errorf("%d rows, want 500", n)
	}
}

// R3, defect 2.
func TestAPanicKeepsItsStack(t *testing.T) {
	defer func() {
		if r := recover(); r != errStop { //nolint:errorlint // the value itself
			t.Errorf("recovered %v", r)
		}
	}()
	_ = dbscope.Run(t.Context(), func(context.Context) error { panic(errStop) })
}

// Defect 3.
func TestAHandleOfOneDatabaseTakenBesideAnotherRunsOnItsOwn(t *testing.T) {
	f1, db1 := newFake(t)
	f2, db2 := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db1, "1")
		exec(ctx, t, db2, "2")
		ok(t, db2.Commit(ctx))
		return errStop
	})
	is(t, err, errStop)
	equal(t, "rows of db1", f1.Rows())
	equal(t, "rows of db2", f2.Rows(), "2")
}
