package dbscope_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// races is how often two ends race; DBSCOPE_LONG=1 makes it many.
func races() int {
	if os.Getenv("DBSCOPE_LONG") != "" {
		return 100_000
	}
	return 3_000
}

// sideBySide calls both at once and waits for both.
func sideBySide(fns ...func()) {
	var ready, all sync.WaitGroup
	ready.Add(len(fns))
	for _, fn := range fns {
		all.Go(func() {
			ready.Done()
			ready.Wait()
			fn()
		})
	}
	all.Wait()
}

// earlyEnds are the ways to end what is open while a nested transaction is.
var earlyEnds = map[string]func(context.Context, *dbscope.DB[*drivertest.Tx], *dbscope.Scope) error{
	"Scope.Commit": func(ctx context.Context, _ *dbscope.DB[*drivertest.Tx], s *dbscope.Scope) error { return s.Commit(ctx) },
	"Scope.Rollback": func(ctx context.Context, _ *dbscope.DB[*drivertest.Tx], s *dbscope.Scope) error {
		return s.Rollback(ctx)
	},
	"Scope.End": func(ctx context.Context, _ *dbscope.DB[*drivertest.Tx], s *dbscope.Scope) error {
		return s.End(ctx)
	},
	"DB.Commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], _ *dbscope.Scope) error {
		return db.Commit(ctx)
	},
	"DB.Rollback": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], _ *dbscope.Scope) error {
		return db.Rollback(ctx)
	},
}

func TestAnEarlyEndBesideTheEndOfANestedTransactionLeavesBothOver(t *testing.T) {
	blockEnds := map[string]func(*drivertest.Tx, context.Context) error{
		"Commit": (*drivertest.Tx).Commit, "Rollback": (*drivertest.Tx).Rollback,
	}
	for early, endEarly := range earlyEnds {
		for name, end := range blockEnds {
			for what, before := range map[string]bool{"with work before it": true, "that is the first": false} {
				t.Run(early+" beside "+name+" of one "+what, func(t *testing.T) {
					t.Parallel()
					for range races() / 20 {
						_, db := newFakeUnnamed()
						ctx, scope := dbscope.Begin(t.Context())
						if before {
							exec(ctx, t, db, "a")
						}
						handle, err := db.Session(ctx)
						ok(t, err)
						block, err := handle.Begin(ctx)
						ok(t, err)
						ok(t, block.Exec(ctx, "b"))
						sideBySide(
							func() { _ = endEarly(ctx, db, scope) },
							func() { _ = end(block, ctx) },
						)
						isOver(t, block.Rollback(ctx)) // the usual deferred one
						isOver(t, block.Exec(ctx, "c"))
						isOver(t, block.Commit(ctx))
						_ = scope.Rollback(ctx)
						isOver(t, handle.Exec(ctx, "d"))
						isOver(t, handle.Rollback(ctx))
						ok(t, scope.End(ctx))
					}
				})
			}
		}
	}
}

func TestAnEarlyEndBesideTheEndOfAnAtomicBlockLeavesBothOver(t *testing.T) {
	for early, endEarly := range earlyEnds {
		for what, before := range map[string]bool{"with work before it": true, "that is the first": false} {
			for end, err := range map[string]error{"committed": nil, "undone": errStop} {
				t.Run(early+" beside one "+end+" "+what, func(t *testing.T) {
					t.Parallel()
					for range races() / 20 {
						f, db := newFakeUnnamed()
						ctx, scope := dbscope.Begin(t.Context())
						if before {
							exec(ctx, t, db, "a")
						}
						inside, block := make(chan struct{}), make(chan context.Context, 1)
						sideBySide(
							func() {
								<-inside
								_ = endEarly(ctx, db, scope)
							},
							func() {
								_ = db.Atomic(ctx, func(ctx context.Context) error {
									ok(t, drivertest.Exec(ctx, db, "b"))
									block <- ctx
									close(inside)
									return err
								})
							},
						)
						isOver(t, drivertest.Exec(<-block, db, "c"))
						_ = scope.Rollback(ctx)
						ok(t, scope.End(ctx))
						if n := f.Open(); n != 0 {
							t.Fatalf("%d connections are out of the pool", n)
						}
					}
				})
			}
		}
	}
}

func isOver(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, sql.ErrTxDone) && !errors.Is(err, dbscope.ErrScopeEnded) {
		t.Fatalf("got %v, want %v", err, sql.ErrTxDone)
	}
}

func newFakeUnnamed() (*drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	f := drivertest.NewFake()
	return f, f.DB()
}

func TestACommitThatWaitsForAnotherEndOfTheTransactionLeavesItsDatabaseOut(t *testing.T) {
	for i := range races() / 10 {
		f, g := drivertest.NewFake(), drivertest.NewFake()
		db, other := f.DB(dbscope.SettleByLedger()), g.DB()
		ctx, scope := dbscope.Begin(t.Context())
		exec(ctx, t, db, "a")
		exec(ctx, t, other, "b")
		handle, err := db.Session(ctx)
		ok(t, err)
		step, end := "commit", (*drivertest.Tx).Commit
		if i%2 == 0 {
			step, end = "rollback", (*drivertest.Tx).Rollback
			f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
			is(t, handle.Exec(ctx, "c"), errStop)
		}
		entered := make(chan struct{})
		f.Inject(step, drivertest.Fault{Entered: entered})
		sideBySide(
			func() { ok(t, end(handle, ctx)) },
			func() {
				<-entered
				ok(t, scope.Commit(ctx))
			},
		)
		equal(t, "rows", g.Rows(), "b")
		ok(t, scope.End(ctx))
	}
}
