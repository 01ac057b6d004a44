package dbscope_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestWhatAFailedStatementLeavesDecidesTheEnd(t *testing.T) {
	for _, c := range []struct {
		fate  driver.Fate
		later bool // a later statement is sent
		end   []string
		rows  []string
	}{
		{driver.Lost, false, []string{"discard"}, nil},
		{driver.Undone, false, []string{"release"}, nil},
		{driver.Aborted, true, []string{"rollback", "release"}, nil},
		{driver.Intact, true, []string{"commit", "release"}, []string{"a", "c"}},
	} {
		f, db := newFake(t)
		var later error
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			f.Inject("exec", drivertest.Fault{Err: errStop, Fate: c.fate})
			is(t, drivertest.Exec(ctx, db, "b"), errStop)
			later = drivertest.Exec(ctx, db, "c")
			return nil
		})
		want := append([]string{"open", "acquire", "begin", "exec a", "exec b"}, map[bool][]string{true: {"exec c"}}[c.later]...)
		equal(t, "calls", f.Log(), append(want, c.end...)...)
		equal(t, "rows", f.Rows(), c.rows...)
		if c.fate == driver.Intact {
			ok(t, errors.Join(err, later))
			continue
		}
		for _, err := range []error{err, later} {
			is(t, err, dbscope.ErrRolledBack)
			is(t, err, errStop)
		}
	}
}

func TestAfterAnEarlyRollbackABrokenSessionIsWhole(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Lost})
		is(t, drivertest.Exec(ctx, db, "a"), errStop)
		is(t, drivertest.Exec(ctx, db, "b"), dbscope.ErrRolledBack)
		ok(t, db.Rollback(ctx))
		exec(ctx, t, db, "c")
		return nil
	}))
	equal(t, "rows", f.Rows(), "c")
}

func TestAnEarlyCommitOfABrokenSessionFailsAndBeginsAnew(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
		is(t, drivertest.Exec(ctx, db, "a"), errStop)
		err := db.Commit(ctx)
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, errStop)
		exec(ctx, t, db, "b")
		return nil
	}))
	equal(t, "rows", f.Rows(), "b")
}

func TestATransactionThatJoinedAndDidNothingCanBeRolledBackWithWhatItJoined(t *testing.T) {
	for name, end := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx]) error{
		"DB.Rollback": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error { return db.Rollback(ctx) },
		"RollbackOpen": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.RollbackOpen)
		},
		"DB.Commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			is(t, db.Commit(ctx), dbscope.ErrRolledBack)
			return nil
		},
	} {
		f, db := newFake(t)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			joining, err := tx.Join(ctx)
			ok(t, err)
			ok(t, joining.Rollback(ctx))
			if err := end(ctx, db); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			exec(ctx, t, db, "after")
			return nil
		}))
		equal(t, name, f.Rows(), "after")
	}
}

func TestBeginIsTriedAgainOnAnotherConnectionOnlyWhereItsOwnWasDead(t *testing.T) {
	f, db := newFake(t)
	for range 3 {
		f.Inject("begin", drivertest.Fault{Err: errStop, Fate: driver.Lost})
	}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { exec(ctx, t, db, "a"); return nil }))
	equal(t, "rows", f.Rows(), "a")
	if n := slices.Index(f.Log(), "exec a"); n != 1+3*3+2 {
		t.Errorf("calls: %v", f.Log())
	}

	f, db = newFake(t)
	f.Inject("begin", drivertest.Fault{Err: errStop, Fate: driver.Intact})
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }), errStop)
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "release")

	f, db = newFake(t)
	for range 100 {
		f.Inject("begin", drivertest.Fault{Err: errStop, Fate: driver.Lost})
	}
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }), errStop)
}

func TestBeginThatIsCancelledTellsTheCause(t *testing.T) {
	f, db := newFake(t)
	entered := make(chan struct{})
	f.Inject("begin", drivertest.Fault{Entered: entered, Until: make(chan struct{}), Fate: driver.Intact})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-entered; cancel(errStop) }()
	err := dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
	is(t, err, errStop)
	is(t, err, context.Canceled)
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "discard")
}

func TestAnErrorOfThePoolNamesTheDatabaseAndAfterARollbackTheScopeIsUsable(t *testing.T) {
	f, db := newFake(t, dbscope.Name("shop"))
	f.Inject("open", drivertest.Fault{Err: errStop})
	f.Inject("acquire", drivertest.Fault{Err: errStop})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		for range 2 {
			err := drivertest.Exec(ctx, db, "a")
			is(t, err, errStop)
			if !strings.Contains(err.Error(), "dbscope: shop: ") {
				t.Errorf("the message is %q", err)
			}
			ok(t, db.Rollback(ctx))
		}
		exec(ctx, t, db, "a")
		return nil
	}))
	equal(t, "rows", f.Rows(), "a")
}

func TestThePoolIsOpenedOnceByManyAtOnce(t *testing.T) {
	f, db := newFake(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	opened := 0
	for _, call := range f.Log() {
		if call == "open" {
			opened++
		}
	}
	if opened != 1 {
		t.Errorf("opened %d times", opened)
	}
}

func TestWaitingForThePoolToOpenEndsWithTheContext(t *testing.T) {
	f, db := newFake(t)
	entered, until := make(chan struct{}), make(chan struct{})
	f.Inject("open", drivertest.Fault{Entered: entered, Until: until})
	first := make(chan error)
	unit := func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }
	go func() { first <- dbscope.Run(t.Context(), unit) }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error)
	go func() { second <- dbscope.Run(ctx, unit) }()
	cancel()
	is(t, <-second, context.Canceled)
	close(until)
	ok(t, <-first)
}

func TestAClosedDBRefusesAndClosesItsPoolOnce(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { exec(ctx, t, db, "a"); return nil }))
	ok(t, db.Close())
	ok(t, db.Close())
	err := dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") })
	if err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("the error is %v", err)
	}
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "commit", "release", "close")
}

// abandoned runs a unit that ends while another goroutine is in the given
// step, and returns the unit's error and that goroutine's.
func abandoned(t *testing.T, f *drivertest.Fake, step string, use func(context.Context) error, end error) (unit, straggler error) {
	entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	inside := make(chan context.Context, 1)
	unit = dbscope.Run(t.Context(), func(ctx context.Context) error {
		inside <- ctx
		f.Inject(step, drivertest.Fault{Entered: entered, Until: until})
		go func() { done <- use(ctx) }()
		<-entered
		return end
	})
	is(t, use(<-inside), dbscope.ErrScopeEnded)
	close(until)
	return unit, <-done
}

func TestAScopeThatEndsWhileAStatementRunsIsUndoneWhenItReturns(t *testing.T) {
	f, db := newFake(t)
	unit, straggler := abandoned(t, f, "exec", func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }, nil)
	is(t, straggler, dbscope.ErrRolledBack)
	is(t, unit, dbscope.ErrSessionBusy)
	is(t, unit, dbscope.ErrRolledBack)
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "rollback", "release")

	f, db = newFake(t)
	unit, _ = abandoned(t, f, "exec", func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }, errStop)
	if unit != errStop { //nolint:errorlint // nothing is joined to it
		t.Errorf("the unit's error is %v", unit)
	}
	equal(t, "rows", f.Rows())
}

func TestAScopeThatEndsWhileItsSessionOpensIsUndoneWhenItIsOpen(t *testing.T) {
	for _, step := range []string{"acquire", "begin"} {
		f, db := newFake(t)
		unit, _ := abandoned(t, f, step, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }, nil)
		is(t, unit, dbscope.ErrSessionBusy)
		equal(t, "rows", f.Rows())
	}
}

func TestAScopeThatEndsWhileRowsAreReadIsUndoneWhenTheReadReturns(t *testing.T) {
	f, db := newFake(t)
	entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		tx, err := db.Session(ctx)
		ok(t, err)
		rows, err := tx.Query(ctx, "all")
		ok(t, err)
		f.Inject("next", drivertest.Fault{Entered: entered, Until: until})
		go func() {
			_, err := rows.Next()
			_, again := rows.Next()
			done <- errors.Join(err, again, rows.Close())
		}()
		<-entered
		return nil
	})
	is(t, err, dbscope.ErrSessionBusy)
	close(until)
	is(t, <-done, dbscope.ErrScopeEnded)
	equal(t, "rows", f.Rows())
}

func TestAnEarlyEndWhileAStatementRunsIsRefusedAndHarmsNothing(t *testing.T) {
	f, db := newFake(t)
	entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
		go func() { done <- drivertest.Exec(ctx, db, "a") }()
		<-entered
		is(t, db.Commit(ctx), dbscope.ErrSessionBusy)
		is(t, db.Rollback(ctx), dbscope.ErrSessionBusy)
		is(t, db.Release(ctx), dbscope.ErrSessionBusy)
		close(until)
		ok(t, <-done)
		return nil
	}))
	equal(t, "rows", f.Rows(), "a")
}

func TestAScopeWideCommitWhileAStatementRunsUndoesAllAndGoesOn(t *testing.T) {
	f := drivertest.NewFake()
	idleConns(t, f)
	one, two := f.DB(), f.DB()
	entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error)
	ctx, scope := dbscope.Begin(t.Context())
	exec(ctx, t, one, "1")
	f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
	go func() { done <- drivertest.Exec(ctx, two, "2") }()
	<-entered
	is(t, scope.Commit(ctx), dbscope.ErrSessionBusy)
	exec(ctx, t, two, "3") // on a connection of its own
	close(until)
	is(t, <-done, dbscope.ErrRolledBack)
	ok(t, scope.Commit(ctx))
	ok(t, scope.End(ctx))
	equal(t, "rows", f.Rows(), "3")
}

func TestAScopeThatEndsWhileItsSessionIsCommittedEarlyWaitsForTheTruth(t *testing.T) {
	for _, c := range []struct {
		fault driver.Outcome
		err   error
		rows  []string
	}{{err: nil, rows: []string{"a"}}, {err: errStop, fault: driver.RolledBack}} {
		f, db := newFake(t)
		entered, until, early := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		f.Inject("commit", drivertest.Fault{Entered: entered, Until: until, Err: c.err, Outcome: c.fault})
		ctx, scope := dbscope.Begin(t.Context())
		exec(ctx, t, db, "a")
		go func() { early <- db.Commit(ctx) }()
		<-entered
		end := make(chan error)
		go func() { end <- errors.Join(scope.Commit(ctx), scope.End(ctx)) }()
		close(until)
		is(t, <-early, c.err)
		ok(t, <-end)
		equal(t, "rows", f.Rows(), c.rows...)
	}
}

func TestAUserFunctionThatPanicsLeavesTheSessionUsable(t *testing.T) {
	f, db := newFake(t)
	f.Inject("open", drivertest.Fault{Panic: "oops"})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		func() {
			defer func() {
				if recover() != "oops" {
					t.Error("the panic was changed")
				}
			}()
			_ = drivertest.Exec(ctx, db, "a")
		}()
		exec(ctx, t, db, "b")
		return nil
	}))
	equal(t, "rows", f.Rows(), "b")
}

func TestRowsThatFailAsTheCommitClosesThemFailTheCommit(t *testing.T) {
	for _, fate := range []driver.Fate{driver.Lost, driver.Aborted, driver.Intact} {
		f, db := newFake(t)
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			tx, err := db.Session(ctx)
			ok(t, err)
			_, err = tx.Query(ctx, "all")
			ok(t, err)
			f.Inject("rows close", drivertest.Fault{Err: errStop, Fate: fate})
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, errStop)
		equal(t, "rows", f.Rows())
	}
}

func TestAReadThatFailsBreaksTheSessionAsItsStatementWould(t *testing.T) {
	f, db := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		tx, err := db.Session(ctx)
		ok(t, err)
		rows, err := tx.Query(ctx, "all")
		ok(t, err)
		f.Inject("next", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
		_, err = rows.Next()
		is(t, err, errStop)
		_, err = rows.Next()
		is(t, err, io.EOF)
		return nil
	})
	is(t, err, dbscope.ErrRolledBack)
	is(t, err, errStop)
}

func TestASavepointThatCannotBeUndoneBreaksTheSession(t *testing.T) {
	f, db := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		tx, err := db.Session(ctx)
		ok(t, err)
		nested, err := tx.Begin(ctx)
		ok(t, err)
		f.Inject("rollback to", drivertest.Fault{Err: errStop})
		is(t, nested.Rollback(ctx), errStop)
		return nil
	})
	is(t, err, dbscope.ErrRolledBack)
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "savepoint dbscope_1", "rollback to dbscope_1", "discard")
}

func TestEndingABlockWhileAStatementRunsFailsTheCommit(t *testing.T) {
	f, db := newFake(t)
	entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := db.Session(ctx)
		ok(t, err)
		nested, err := tx.Begin(ctx)
		ok(t, err)
		f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
		go func() { done <- nested.Exec(ctx, "a") }()
		<-entered
		is(t, nested.Rollback(ctx), dbscope.ErrSessionBusy)
		close(until)
		ok(t, <-done)
		return nil
	})
	is(t, err, dbscope.ErrSessionBusy)
	is(t, err, dbscope.ErrRolledBack)
	equal(t, "rows", f.Rows())
}

func TestAfterAnAtomicBlockThatEndedWhileAStatementRanTheTransactionCanBeUndone(t *testing.T) {
	for _, open := range []bool{false, true} {
		f, db := newFake(t)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			if open {
				exec(ctx, t, db, "before")
			}
			entered, until, done := make(chan struct{}), make(chan struct{}), make(chan error)
			f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
			is(t, db.Atomic(ctx, func(ctx context.Context) error {
				go func() { done <- drivertest.Exec(ctx, db, "block") }()
				<-entered
				return nil
			}), dbscope.ErrSessionBusy)
			close(until)
			ok(t, <-done)
			is(t, drivertest.Exec(ctx, db, "spoiled"), dbscope.ErrRolledBack)
			ok(t, db.Rollback(ctx))
			exec(ctx, t, db, "after")
			return nil
		}))
		equal(t, "rows", f.Rows(), "after")
	}
}

func TestUnscopedStatementsRunEachOnItsOwn(t *testing.T) {
	f, db := newFake(t, dbscope.AllowUnscoped())
	exec(t.Context(), t, db, "a", "b")
	equal(t, "calls", f.Log(), "open", "acquire", "exec a", "release", "acquire", "exec b", "release")
	f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Lost})
	is(t, drivertest.Exec(t.Context(), db, "c"), errStop)
	if _, err := db.Session(t.Context()); !errors.Is(err, dbscope.ErrNoScope) {
		t.Errorf("a session without a scope: %v", err)
	}
	over, scope := dbscope.Begin(t.Context())
	ok(t, scope.End(over))
	is(t, drivertest.Exec(over, db, "late"), dbscope.ErrScopeEnded)
	equal(t, "rows", f.Rows(), "a", "b")
}

func TestAnUnscopedTransactionIsAUnitOfItsOwn(t *testing.T) {
	f, db := newFake(t, dbscope.AllowUnscoped())
	for _, commit := range []bool{true, false} {
		tx, err := drivertest.Begin(t.Context(), db)
		ok(t, err)
		ok(t, tx.Exec(t.Context(), "a"))
		if commit {
			ok(t, tx.Commit(t.Context()))
		} else {
			ok(t, tx.Rollback(t.Context()))
		}
		is(t, tx.Exec(t.Context(), "b"), dbscope.ErrScopeEnded)
	}
	equal(t, "rows", f.Rows(), "a")
}

// The window between a scope's end and a statement that another goroutine is
// about to run: whatever the order, the statement is in the commit, or
// refused, or makes the commit fail.
func TestAStatementThatRacesWithTheEndIsCommittedOrToldOtherwise(t *testing.T) {
	for range 1000 {
		synctest.Test(t, func(t *testing.T) {
			f, db := newFake(t)
			done := make(chan error, 1)
			unit := dbscope.Run(t.Context(), func(ctx context.Context) error {
				go func() { done <- drivertest.Exec(ctx, db, "a") }()
				return nil
			})
			statement := <-done
			stored := len(f.Rows()) == 1
			if stored != (unit == nil && statement == nil) {
				t.Errorf("stored %v, but the unit says %v and the statement %v", stored, unit, statement)
			}
		})
	}
}
