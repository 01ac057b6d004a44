package dbscope_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/sandbox"
)

// Package tests/scopetest has what can be tested on real databases.

func TestAUnitOfATestThatNothingHappensForIsToldWhatItWaitsFor(t *testing.T) {
	f, db := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		box := sandbox.New(db)
		ctx := box.Context(t.Context())
		var waited error
		ok(t, dbscope.Run(ctx, func(outer context.Context) error {
			exec(outer, t, db, "one")
			answer := make(chan struct{})
			go func() { // as a server would, whose answer the outer unit waits for
				defer close(answer)
				waited = dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "two") })
			}()
			<-answer
			return nil
		}))
		is(t, waited, dbscope.ErrSessionBusy)
		if strings.Count(waited.Error(), "\ngoroutine ") != 2 {
			t.Errorf("the error does not have both stacks: %v", waited)
		}
		ok(t, box.End(t.Context()))
	})
	equal(t, "rows", f.Rows())
}

func TestAStatementThatOutlivesATestHasItsConnectionUndoneInTheEnd(t *testing.T) {
	f, db := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		box := sandbox.New(db)
		ctx := box.Context(t.Context())
		entered, until := make(chan struct{}), make(chan struct{})
		f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
		go func() {
			_ = dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "one") })
		}()
		<-entered
		start := time.Now()
		err := box.End(t.Context())
		if err == nil || !strings.Contains(err.Error(), "a statement still runs") || time.Since(start) > time.Minute {
			t.Errorf("after %v the error is %v", time.Since(start), err)
		}
		if f.Open() != 1 {
			t.Error("the connection is not the statement's any more")
		}
		close(until)
		synctest.Wait()
	})
	equal(t, "rows", f.Rows())
}

func TestATestThatCannotBeginSaysWhy(t *testing.T) {
	f, db := newFake(t)
	box := sandbox.New(db)
	run := func() error {
		return dbscope.Run(box.Context(t.Context()), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "one") })
	}
	f.Inject("row", drivertest.Fault{Err: errStop})
	is(t, run(), errStop)
	ok(t, run()) // on another connection
	f.Inject("savepoint", drivertest.Fault{Err: errStop})
	is(t, run(), errStop)
	is(t, run(), dbscope.ErrRolledBack)
	is(t, box.End(t.Context()), errStop)
	equal(t, "rows", f.Rows())
}

func TestManyUnitsOfATestLeaveFewSavepoints(t *testing.T) {
	f, db := newFake(t)
	box := sandbox.New(db)
	ctx := box.Context(t.Context())
	one := func(ctx context.Context) error { return drivertest.Exec(ctx, db, "one") }
	many := func(ctx context.Context) error {
		for i := range 100 {
			if err := dbscope.Run(ctx, one); err != nil {
				return err
			}
			is(t, dbscope.Run(ctx, func(ctx context.Context) error { // on PostgreSQL they would slow down all else
				ok(t, one(ctx))
				return dbscope.Run(ctx, func(ctx context.Context) error { ok(t, one(ctx)); return errStop })
			}), errStop)
			if i%10 == 0 {
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error { ok(t, one(ctx)); return dbscope.Run(ctx, one) }))
			}
		}
		return nil
	}
	ok(t, many(ctx))
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error { ok(t, one(ctx)); return many(ctx) }))
	made, released := 0, 0
	for _, call := range f.Log() {
		switch {
		case strings.HasPrefix(call, "savepoint "):
			made++
		case strings.HasPrefix(call, "release savepoint "):
			released++
		}
	}
	if made < 500 || released < 10 || released > made/10 {
		t.Errorf("%d savepoints, %d released", made, released)
	}
	ok(t, box.End(t.Context()))
	equal(t, "rows", f.Rows())
}
