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
