package dbscope_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

var errSlow = errors.New("the client is too slow")

// watched keeps what it is told, as the scope answers at that moment.
type watched struct {
	scope middleware.Scope
	mu    sync.Mutex
	told  []string
}

func (w *watched) HoldingChanged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, fmt.Sprint(w.scope.Holding()))
}

func watch(t *testing.T, opts ...dbscope.Option) (context.Context, middleware.Scope, *watched) {
	ctx, scope := begin(t.Context(), opts...)
	t.Cleanup(func() { ok(t, scope.End(ctx)) })
	w := &watched{scope: scope}
	scope.Watch(w)
	return ctx, scope, w
}

func wantHolding(t *testing.T, s middleware.Scope, holding, idle bool) {
	t.Helper()
	if s.Holding() != holding || s.Idle() != idle {
		t.Fatalf("holding is %t and idle %t, want %t and %t", s.Holding(), s.Idle(), holding, idle)
	}
}

func TestAScopeTellsWhetherItHoldsConnectionsAndWhetherTheyAreIdle(t *testing.T) {
	f, db := newFake(t)
	_, other := newFake(t)
	ctx, scope, w := watch(t)
	wantHolding(t, scope, false, false)
	entered, until := make(chan struct{}), make(chan struct{})
	f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := drivertest.Exec(ctx, db, "row"); err != nil {
			t.Error(err)
		}
	})
	<-entered
	wantHolding(t, scope, true, false)
	close(until)
	wg.Wait()
	wantHolding(t, scope, true, true)
	exec(ctx, t, other, "other row")
	rows := query(ctx, t, db)
	wantHolding(t, scope, true, true) // nobody fetches the next row
	ok(t, rows.Close())
	ok(t, scope.Commit(ctx))
	wantHolding(t, scope, false, false)
	equal(t, "the watcher was told", w.told, "true", "false")
	exec(ctx, t, db, "late")
	ok(t, scope.Rollback(ctx))
	equal(t, "the watcher was told", w.told, "true", "false", "true", "false")
}

func TestConnectionsOfScopesBegunInsideCountForTheOneAroundThem(t *testing.T) {
	f, db := newFake(t)
	ctx, scope, w := watch(t)
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		return db.Detached(ctx, func(ctx context.Context, tx *drivertest.Tx) error {
			ok(t, tx.Exec(ctx, "row"))
			wantHolding(t, scope, true, true)
			entered, until := make(chan struct{}), make(chan struct{})
			f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := tx.Exec(ctx, "row"); err != nil {
					t.Error(err)
				}
			})
			<-entered
			wantHolding(t, scope, true, false)
			close(until)
			wg.Wait()
			return nil
		})
	}))
	wantHolding(t, scope, false, false)
	equal(t, "the watcher was told", w.told, "true", "false")
}

func TestAnAbortedScopeGivesItsConnectionsBackAndSaysWhy(t *testing.T) {
	f, db := newFake(t)
	ctx, scope, _ := watch(t)
	exec(ctx, t, db, "row")
	rows := query(ctx, t, db)
	var undone atomic.Bool
	ok(t, dbscope.AfterRollback(ctx, func(context.Context) error {
		undone.Store(true)
		return nil
	}))
	ok(t, scope.Abort(ctx, errSlow))
	wantOpen(t, f, 0)
	if !undone.Load() {
		t.Error("the hook did not run")
	}
	_, read := rows.Next()
	_, session := db.Session(ctx)
	for name, err := range map[string]error{
		"a statement":  drivertest.Exec(ctx, db, "late"),
		"a row":        read,
		"Session":      session,
		"Scope.Commit": scope.Commit(ctx),
		"DB.Commit":    db.Commit(ctx),
		"MarkRollback": dbscope.MarkRollback(ctx),
		"a hook":       dbscope.AfterCommit(ctx, func(context.Context) error { return nil }),
		"Atomic":       db.Atomic(ctx, func(context.Context) error { return nil }),
	} {
		if !errors.Is(err, errSlow) || !errors.Is(err, dbscope.ErrRolledBack) || strings.Count(err.Error(), "dbscope:") != 1 {
			t.Errorf("%s returned %v", name, err)
		}
	}
	ok(t, scope.Rollback(ctx))
	ok(t, scope.Abort(ctx, errStop))
	ok(t, scope.End(ctx))
	equal(t, "stored is", f.Rows())
	if scope.Transient(drivertest.ErrTransient) {
		t.Error("it is to be tried again")
	}
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a unit of its own") }))
	equal(t, "stored is", f.Rows(), "a unit of its own")
}

func TestUnitsInsideAnAbortedScopeAreAbortedWithIt(t *testing.T) {
	f, db := newFake(t)
	for name, run := range map[string]func(ctx context.Context, fn func(context.Context) error) error{
		"Run": func(ctx context.Context, fn func(context.Context) error) error { return dbscope.Run(ctx, fn) },
		"Run, twice": func(ctx context.Context, fn func(context.Context) error) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { return dbscope.Run(ctx, fn) })
		},
		"Run with Retry": func(ctx context.Context, fn func(context.Context) error) error {
			return dbscope.Run(ctx, fn, dbscope.Retry(dbscope.RetryPolicy{}))
		},
		"Detached": func(ctx context.Context, fn func(context.Context) error) error {
			return db.Detached(ctx, func(ctx context.Context, _ *drivertest.Tx) error { return fn(ctx) })
		},
		"a Group": func(ctx context.Context, fn func(context.Context) error) error {
			g := dbscope.NewGroup(ctx)
			g.Go(fn)
			return g.Wait()
		},
		"a Group that commits together": func(ctx context.Context, fn func(context.Context) error) error {
			g := dbscope.NewGroup(ctx)
			g.CommitTogether()
			g.Go(fn)
			g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "beside") })
			return g.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, scope, _ := watch(t)
			calls := 0
			err := run(ctx, func(ctx context.Context) error {
				calls++
				if err := drivertest.Exec(ctx, db, "row"); err != nil {
					return err
				}
				return scope.Abort(ctx, errSlow) // in another goroutine, but for the test
			})
			is(t, err, errSlow)
			is(t, err, dbscope.ErrRolledBack)
			if calls != 1 {
				t.Errorf("it ran %d times", calls)
			}
			equal(t, "stored is", f.Rows())
			wantOpen(t, f, 0)
		})
	}
}

func TestAStatementThatRunsWhenItsScopeIsAbortedIsUndoneWhenItReturns(t *testing.T) {
	f, db := newFake(t)
	ctx, scope, _ := watch(t)
	entered, until := make(chan struct{}), make(chan struct{})
	f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
	result := make(chan error)
	go func() { result <- drivertest.Exec(ctx, db, "row") }()
	<-entered
	ok(t, scope.Abort(ctx, errSlow))
	close(until)
	is(t, <-result, errSlow)
	is(t, scope.Commit(ctx), errSlow)
	wantOpen(t, f, 0)
	equal(t, "stored is", f.Rows())
}

// Whoever is first, what Commit says is what is stored.
func TestACommitThatMeetsAnAbortTellsTheTruth(t *testing.T) {
	outcomes := map[bool]int{}
	for name, unit := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx], func()) error{
		"Scope.Commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], abort func()) error {
			scope, _ := middleware.ScopeOf(ctx)
			go abort()
			return scope.Commit(ctx)
		},
		"DB.Commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], abort func()) error {
			go abort()
			return db.Commit(ctx)
		},
		"the handle's commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], abort func()) error {
			tx, err := db.Session(ctx)
			if err != nil {
				return err
			}
			go abort()
			return tx.Commit(ctx)
		},
		"an Atomic block": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], abort func()) error {
			return db.Atomic(ctx, func(context.Context) error {
				go abort()
				return nil
			}, dbscope.ContinueOpen)
		},
		"Run": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], abort func()) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				if err := drivertest.Exec(ctx, db, "row"); err != nil {
					return err
				}
				go abort()
				return nil
			})
		},
	} {
		for range 300 {
			f, db := newFake(t)
			ctx, scope := begin(t.Context())
			rows := 0
			if name != "Run" {
				exec(ctx, t, db, "row")
			}
			done := make(chan error, 1)
			err := unit(ctx, db, func() { done <- scope.Abort(ctx, errSlow) })
			ok(t, <-done)
			ok(t, scope.End(ctx))
			if err == nil {
				rows = 1
			} else if name != "the handle's commit" { // which may say no more than that it is over
				is(t, err, dbscope.ErrRolledBack)
			}
			outcomes[err == nil]++
			if got := len(f.Rows()); got != rows {
				t.Fatalf("%s returned %v, and %d rows are stored", name, err, got)
			}
		}
	}
	t.Log(outcomes)
}

// To read through them would take longer than to replace the connection.
func TestRowsThatTakeLongToCloseDoNotKeepTheConnectionOfAnAbortedScope(t *testing.T) {
	f, db := newFake(t)
	ctx, scope, _ := watch(t)
	query(ctx, t, db)
	f.Inject("rows close", drivertest.Fault{Until: make(chan struct{})})
	began := time.Now()
	ok(t, scope.Abort(ctx, errSlow))
	if took := time.Since(began); took > 5*time.Second { // CommitTimeout is ten
		t.Errorf("it took %v", took)
	}
	wantOpen(t, f, 0)
	is(t, scope.Commit(ctx), errSlow)
}
