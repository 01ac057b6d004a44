package dbscope_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

func TestAGroupsFunctionsRunSideBySideEachInAScopeOfItsOwn(t *testing.T) {
	f, db := newFake(t)
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "undone")
		outer, _ := dbscope.FromContext(ctx)
		scopes := map[*dbscope.Scope]bool{outer: true}
		var mu sync.Mutex
		var meet sync.WaitGroup
		meet.Add(3)
		g := dbscope.NewGroup(ctx)
		for range 3 {
			g.Go(func(ctx context.Context) error {
				scope, _ := dbscope.FromContext(ctx)
				mu.Lock()
				scopes[scope] = true
				mu.Unlock()
				err := drivertest.Exec(ctx, db, "kept")
				meet.Done()
				meet.Wait() // all have a transaction open
				return err
			})
		}
		ok(t, g.Wait())
		if len(scopes) != 4 {
			t.Errorf("%d scopes", len(scopes))
		}
		return errStop
	}), errStop)
	equal(t, "rows", f.Rows(), "kept", "kept", "kept")
}

func TestAGroupWithNothingToDoIsDone(t *testing.T) {
	for _, together := range []bool{false, true} {
		g := dbscope.NewGroup(t.Context())
		if together {
			g.CommitTogether()
		}
		ok(t, g.Wait())
	}
}

func TestAGroupsOptionsAreThoseOfEachFunctionsScope(t *testing.T) {
	for _, together := range []bool{false, true} {
		g := dbscope.NewGroup(t.Context(), dbscope.ReadOnly())
		if together {
			g.CommitTogether()
		}
		for range 2 {
			g.Go(func(ctx context.Context) error {
				if scope, _ := middleware.ScopeOf(ctx); !scope.ReadOnly() {
					t.Error("a scope is not read-only")
				}
				return nil
			})
		}
		ok(t, g.Wait())
	}
}

func TestAGroupsLimitIsRespectedAndZeroIsNone(t *testing.T) {
	for limit, want := range map[int]time.Duration{-1: time.Second, 0: time.Second, 1: 6 * time.Second, 2: 3 * time.Second, 4: 2 * time.Second} {
		for _, together := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var running, most atomic.Int32
				g := dbscope.NewGroup(t.Context())
				g.SetLimit(limit)
				if together {
					g.CommitTogether()
				}
				for range 6 {
					g.Go(func(context.Context) error {
						n := running.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						time.Sleep(time.Second)
						running.Add(-1)
						return nil
					})
				}
				if d := time.Since(start); d != max(0, want-time.Second) {
					t.Errorf("with a limit of %d Go blocked for %v", limit, d)
				}
				ok(t, g.Wait())
				if d := time.Since(start); d != want || limit > 0 && int(most.Load()) > limit {
					t.Errorf("with a limit of %d it took %v, %d at once", limit, d, most.Load())
				}
			})
		}
	}
}

func TestALimitCountsNoFunctionThatFailedOrEnded(t *testing.T) {
	g := dbscope.NewGroup(t.Context())
	g.SetLimit(1)
	g.Go(func(context.Context) error { return errStop })
	g.Go(func(context.Context) error { runtime.Goexit(); return nil })
	ran := false
	g.Go(func(context.Context) error { ran = true; return nil })
	is(t, g.Wait(), errStop)
	if !ran {
		t.Error("the last did not run")
	}
}

func TestTheFirstErrorCancelsTheOthersAndIsTheCause(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", drivertest.Fault{Until: make(chan struct{}), Err: errBroken})
	g := dbscope.NewGroup(t.Context())
	for _, answer := range []func(context.Context) error{
		context.Cause,
		func(ctx context.Context) error { return ctx.Err() },
		func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") },
		func(ctx context.Context) error { return fmt.Errorf("it ended: %w", context.Cause(ctx)) },
	} {
		g.Go(func(ctx context.Context) error {
			<-ctx.Done()
			if cause := context.Cause(ctx); cause != errStop { //nolint:errorlint // the value itself
				t.Errorf("the cause is %v", cause)
			}
			return answer(ctx)
		})
	}
	g.Go(func(context.Context) error { return errStop })
	if err := g.Wait(); err != errStop { //nolint:errorlint // nothing is joined to it
		t.Errorf("the error is %v", err)
	}
	equal(t, "rows", f.Rows())
}

func TestWaitReturnsTheFirstErrorAndThenTheOthersInTheOrderOfGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := dbscope.NewGroup(t.Context())
		for i, after := range []int{4, 1, 3, 2} {
			g.Go(func(context.Context) error {
				time.Sleep(time.Duration(after) * time.Second)
				return fmt.Errorf("of %d", i)
			})
		}
		if err := g.Wait(); err.Error() != "of 1\nof 0\nof 2\nof 3" {
			t.Errorf("the error is %q", err)
		}
	})
}

func TestAFailedFunctionUndoesOnlyItsOwnWork(t *testing.T) {
	f, db := newFake(t)
	g := dbscope.NewGroup(t.Context())
	g.SetLimit(1)
	g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
	g.Go(func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "b"), errStop) })
	is(t, g.Wait(), errStop)
	equal(t, "rows", f.Rows(), "a")
}

func TestAGroupEndsWithItsCallersContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	g := dbscope.NewGroup(ctx)
	g.Go(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
	g.Go(func(ctx context.Context) error { <-ctx.Done(); return nil })
	cancel(errStop)
	is(t, g.Wait(), errStop)
}

func TestAGroupsContextEndsWhenWaitReturns(t *testing.T) {
	for _, together := range []bool{false, true} {
		g := dbscope.NewGroup(t.Context())
		if together {
			g.CommitTogether()
		}
		escaped := make(chan context.Context, 1)
		g.Go(func(ctx context.Context) error {
			escaped <- ctx
			return dbscope.BeforeCommit(ctx, func(ctx context.Context) error { return ctx.Err() })
		})
		ok(t, g.Wait())
		is(t, (<-escaped).Err(), context.Canceled)
	}
}

func TestAFunctionThatEndsItsGoroutineIsUndoneAndAnError(t *testing.T) {
	for _, together := range []bool{false, true} {
		f, db := newFake(t)
		g := dbscope.NewGroup(t.Context())
		if together {
			g.CommitTogether()
		}
		g.Go(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		g.Go(func(ctx context.Context) error {
			err := drivertest.Exec(ctx, db, "a")
			if err == nil {
				runtime.Goexit()
			}
			return err
		})
		if err := g.Wait(); err == nil || !strings.Contains(err.Error(), "ended its goroutine") {
			t.Errorf("the error is %v", err)
		}
		equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "rollback", "release")
	}
}

// The program that a panic ends is this test, run by itself.
func TestAPanicUndoesItsWorkAndEndsTheProgram(t *testing.T) {
	if mode := os.Getenv("DBSCOPE_TEST_PANIC"); mode != "" {
		_, db := newFake(t)
		g := dbscope.NewGroup(t.Context())
		if mode == "together" {
			g.CommitTogether()
		}
		g.Go(func(ctx context.Context) error {
			ok(t, dbscope.AfterRollback(ctx, func(context.Context) error { fmt.Println("it was undone"); return nil }))
			ok(t, drivertest.Exec(ctx, db, "a"))
			panic("out of order")
		})
		_ = g.Wait()
		fmt.Println("it went on")
		return
	}
	for _, mode := range []string{"alone", "together"} {
		program := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		program.Env = append(os.Environ(), "DBSCOPE_TEST_PANIC="+mode)
		out, err := program.CombinedOutput()
		text := string(out)
		if err == nil || !strings.Contains(text, "it was undone") || !strings.Contains(text, "panic: out of order") || strings.Contains(text, "it went on") {
			t.Errorf("%s: the program ended with %v:\n%s", mode, err, text)
		}
	}
}

func TestSeveralGroupsWorkOneAfterAnother(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		for _, row := range []string{"a", "b", "c"} {
			g := dbscope.NewGroup(ctx)
			for range 2 {
				g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, row) })
			}
			ok(t, g.Wait())
		}
		return nil
	}))
	equal(t, "rows", f.Rows(), "a", "a", "b", "b", "c", "c")
}

func TestAGroupWorksInTheContextOfAScopeThatHasEnded(t *testing.T) {
	for _, together := range []bool{false, true} {
		f, db := newFake(t)
		ctx, scope := dbscope.Begin(t.Context())
		ok(t, scope.End(ctx))
		g := dbscope.NewGroup(ctx)
		if together {
			g.CommitTogether()
		}
		g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
		ok(t, g.Wait())
		equal(t, "rows", f.Rows(), "a")
	}
}

func TestAFunctionThatWaitsForItsCallersConnectionWaitsABoundedTime(t *testing.T) {
	for _, together := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, db := newFake(t)
			f.LimitConns(1)
			start := time.Now()
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				g := dbscope.NewGroup(ctx)
				if together {
					g.CommitTogether()
				}
				g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") })
				err := g.Wait()
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
	}
}

func TestFunctionsThatWaitForEachOthersConnectionsWaitAsLongAsTheyMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		f.LimitConns(1)
		g := dbscope.NewGroup(t.Context())
		for range 3 {
			g.Go(func(ctx context.Context) error {
				defer time.Sleep(time.Hour)
				return drivertest.Exec(ctx, db, "a")
			})
		}
		ok(t, g.Wait())
		equal(t, "rows", f.Rows(), "a", "a", "a")
	})
}
