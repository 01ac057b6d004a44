// Package sandbox_test has what needs no real database; package tests/scopetest
// has the rest.
package sandbox_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/invariant"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/internal/sandbox"
)

var ok, is = check.OK, check.Is

func init() { invariant.Broken = func(what string) { panic(what) } }

var errStop = errors.New("stop")

// newFake returns a fake database, which has to end without rows and with all
// connections in the pool.
func newFake(t *testing.T, opts ...dbscope.DBOption) (*drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	f := drivertest.NewFake()
	t.Cleanup(func() {
		if rows, open := f.Rows(), f.Open(); len(rows) > 0 || open > 0 {
			t.Errorf("rows %q are stored, and %d connections are out of the pool", rows, open)
		}
	})
	return f, f.DB(opts...)
}

// run stores a row in a unit.
func run(ctx context.Context, db *dbscope.DB[*drivertest.Tx], row string, opts ...dbscope.Option) error {
	return dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, row) }, opts...)
}

func TestAUnitOfATestThatNothingHappensForIsToldWhatItWaitsFor(t *testing.T) {
	_, db := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		box := sandbox.New(db)
		ctx := box.Context(t.Context())
		var waited error
		ok(t, dbscope.Run(ctx, func(outer context.Context) error {
			ok(t, drivertest.Exec(outer, db, "one"))
			answer := make(chan struct{})
			go func() { // as a server would, whose answer the outer unit waits for
				defer close(answer)
				waited = run(ctx, db, "two")
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
}

func TestAStatementThatOutlivesATestHasItsConnectionUndoneInTheEnd(t *testing.T) {
	f, db := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		box := sandbox.New(db)
		ctx := box.Context(t.Context())
		entered, until := make(chan struct{}), make(chan struct{})
		f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
		go func() { _ = run(ctx, db, "one") }()
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
}

func TestATestThatCannotBeginSaysWhy(t *testing.T) {
	f, db := newFake(t)
	box := sandbox.New(db)
	ctx := box.Context(t.Context())
	f.Inject("row", drivertest.Fault{Err: errStop})
	is(t, run(ctx, db, "one"), errStop)
	ok(t, run(ctx, db, "one")) // on another connection
	f.Inject("savepoint", drivertest.Fault{Err: errStop})
	is(t, run(ctx, db, "one"), errStop)
	is(t, run(ctx, db, "one"), dbscope.ErrRolledBack)
	is(t, box.End(t.Context()), errStop)
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
}

// The units of a test share its connection and its transaction.
func TestTheConnectionOfATestIsNotReset(t *testing.T) {
	f, db := newFake(t, dbscope.ResetConnections())
	box := sandbox.New(db)
	for range 2 {
		ok(t, run(box.Context(t.Context()), db, "one"))
	}
	ok(t, box.End(t.Context()))
	log := f.Log()
	if slices.Contains(log, "reset") || slices.Contains(log, "discard") {
		t.Errorf("the log: %v", log)
	}
}

func TestAUnitOfATestAsksForNoReplicaAndItsCommitIsNotNoted(t *testing.T) {
	fake := drivertest.NewFake()
	router, db := routertest.New(t, fake)
	stored := fake.Rows()
	ctx := dbscope.ReadYourWrites(t.Context(), "")
	box := sandbox.New(db)
	ok(t, run(box.Context(ctx), db, "one"))
	ok(t, run(box.Context(ctx), db, "two", dbscope.ReadOnly()))
	ok(t, box.End(ctx))
	if hosts, token := router.Reads(), dbscope.WritesToken(ctx); len(hosts) > 0 || token != "" {
		t.Errorf("units of the test have read on %q and left the token %q", hosts, token)
	}
	if !slices.Equal(fake.Rows(), stored) {
		t.Errorf("stored: %q", fake.Rows())
	}
}
