package model_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// A rollback is under way and has undone the work, but has not given the connection
// back yet, when another goroutine commits the scope, in which nothing is open.
func TestAHookOfUndoneWorkIsNotDecidedByACommitBesideTheRollback(t *testing.T) {
	f := drivertest.NewFake()
	db := f.DB()
	var ran []string
	hook := func(name string) func(context.Context) error {
		return func(context.Context) error { ran = append(ran, name); return nil }
	}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, drivertest.Exec(ctx, db, "a"))
		ok(t, dbscope.AfterCommit(ctx, hook("AfterCommit")))
		ok(t, dbscope.AfterRollback(ctx, hook("AfterRollback")))
		scope, _ := dbscope.FromContext(ctx)
		entered, until, rolledBack := make(chan struct{}), make(chan struct{}), make(chan error)
		f.Inject("release", drivertest.Fault{Entered: entered, Until: until})
		go func() { rolledBack <- scope.Rollback(ctx) }()
		<-entered
		ok(t, scope.Commit(ctx))
		close(until)
		ok(t, <-rolledBack)
		return nil
	}))
	if want := []string{"AfterRollback"}; !slices.Equal(ran, want) || len(f.Rows()) > 0 {
		t.Fatalf("the hooks %q ran and %q is stored, want %q and nothing", ran, f.Rows(), want)
	}
}

// endingNow is a context that ends after somebody has asked once whether it has.
type endingNow struct {
	context.Context // which has ended
	asked           atomic.Bool
}

func (c *endingNow) Err() error {
	if !c.asked.Swap(true) {
		return nil
	}
	return c.Context.Err()
}

// database/sql looks at the context before the driver does, and knows no causes.
func TestAStatementWhoseContextEndsAsItComesTellsTheCause(t *testing.T) {
	db, cause := openSQLite(t, "A"), errors.New("the cause")
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ended, cancel := context.WithCancelCause(ctx)
		cancel(cause)
		_, executed := db.ExecContext(&endingNow{Context: ended}, "INSERT INTO t (id) VALUES (1)")
		_, prepared := db.PrepareContext(&endingNow{Context: ended}, "INSERT INTO t (id) VALUES (1)")
		for _, err := range []error{executed, prepared} {
			if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
				t.Errorf("got %v, want Canceled and the cause", err)
			}
		}
		return nil
	}))
}

// A statement of another goroutine runs while the unit is committed, so that its
// session is abandoned, and returns before it is decided what becomes of the rest:
// the rows that are open in another database still have to be closed.
func abandonEarly(t *testing.T, end func(ctx context.Context, a, b *dbscope.DB[*drivertest.Tx]) error) (stored []string, err error) {
	fa, fb := drivertest.NewFake(), drivertest.NewFake()
	a, b := fa.DB(dbscope.Name("a")), fb.DB(dbscope.Name("b"))
	runs, goOn, closing, closed := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	fa.Inject("exec late", drivertest.Fault{Entered: runs, Until: goOn})
	fb.Inject("rows close", drivertest.Fault{Entered: closing, Until: closed})
	statement := make(chan error, 1)
	err = dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, drivertest.Exec(ctx, a, "early"))
		ok(t, drivertest.Exec(ctx, b, "other"))
		tx, err := b.Session(ctx)
		ok(t, err)
		_, err = tx.Query(ctx, "left open")
		ok(t, err)
		go func() { statement <- drivertest.Exec(ctx, a, "late") }()
		<-runs
		go func() {
			<-closing
			close(goOn)
			statement <- <-statement // it has returned
			close(closed)
		}()
		return end(ctx, a, b)
	})
	if err := <-statement; !errors.Is(err, dbscope.ErrRolledBack) {
		t.Errorf("the statement returned %v, want ErrRolledBack", err)
	}
	return slices.Concat(fa.Rows(), fb.Rows()), err
}

func TestAUnitIsNotCommittedInPartWhereAnAbandonedStatementReturnsAtOnce(t *testing.T) {
	stored, err := abandonEarly(t, func(context.Context, *dbscope.DB[*drivertest.Tx], *dbscope.DB[*drivertest.Tx]) error { return nil })
	if !errors.Is(err, dbscope.ErrRolledBack) || !errors.Is(err, dbscope.ErrSessionBusy) || len(stored) > 0 {
		t.Errorf("Run returned %v and %q is stored, want ErrRolledBack, ErrSessionBusy and nothing", err, stored)
	}
}

func TestAScopeGoesOnAfterAnAbandonedStatementHasReturnedAtOnce(t *testing.T) {
	var undone bool
	stored, err := abandonEarly(t, func(ctx context.Context, a, b *dbscope.DB[*drivertest.Tx]) error {
		ok(t, a.AfterRollback(ctx, func(context.Context) error { undone = true; return nil }))
		scope, _ := dbscope.FromContext(ctx)
		ok(t, scope.Rollback(ctx))
		ok(t, drivertest.Exec(ctx, a, "next"))
		return drivertest.Exec(ctx, b, "next")
	})
	if ok(t, err); !undone || !slices.Equal(stored, []string{"next", "next"}) {
		t.Errorf("stored %q, AfterRollback ran: %v; want next in both, and that it ran", stored, undone)
	}
}
