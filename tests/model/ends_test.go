package model_test

import (
	"context"
	"slices"
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
