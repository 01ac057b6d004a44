package dbscope_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

func TestJoinWithoutAScopeIsARun(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Join(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }))
	is(t, dbscope.Join(t.Context(), func(ctx context.Context) error {
		return errors.Join(drivertest.Exec(ctx, db, "b"), errStop)
	}), errStop)
	var over context.Context
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { over = ctx; return nil })) //nolint:fatcontext // the one that is over
	ok(t, dbscope.Join(over, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "c") }))
	without := dbscope.WithoutScope(over)
	ok(t, dbscope.Join(without, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "d") }, dbscope.Retry(dbscope.RetryPolicy{})))
	equal(t, "stored", f.Rows(), "a", "c", "d")
}

func TestJoinInAScopeIsAPartOfItsUnit(t *testing.T) {
	f, db := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "before")
		outer, _ := dbscope.FromContext(ctx)
		ok(t, dbscope.Join(ctx, func(ctx context.Context) error {
			if inner, _ := dbscope.FromContext(ctx); inner != outer {
				t.Error("it is another scope")
			}
			return dbscope.Join(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "joined") })
		}))
		equal(t, "stored before the end", f.Rows())
		return nil
	})
	ok(t, err)
	equal(t, "stored", f.Rows(), "before", "joined")
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec before", "exec joined", "commit", "release")
}

// Half of a unit is never stored: the caller ignores the error.
func TestWhatFailedInAJoinIsNotStoredThoughNobodyCares(t *testing.T) {
	for name, fail := range map[string]func(){
		"an error": nil,
		"a panic":  func() { panic(errStop) },
		"Goexit":   runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t)
			other, second := newFake(t)
			hooks := 0
			done := make(chan struct{})
			var end, later, elsewhere error
			go func() {
				defer close(done)
				ctx, scope := dbscope.Begin(t.Context())
				defer func() {
					_ = recover()
					later, elsewhere = drivertest.Exec(ctx, db, "later"), drivertest.Exec(ctx, second, "elsewhere")
					end = errors.Join(scope.Commit(ctx), scope.End(ctx))
				}()
				exec(ctx, t, db, "before")
				ok(t, dbscope.BeforeCommit(ctx, func(context.Context) error { hooks++; return nil }))
				_ = dbscope.Join(ctx, func(ctx context.Context) error {
					exec(ctx, t, db, "half")
					if fail != nil {
						fail()
					}
					return errStop
				})
			}()
			<-done
			for _, err := range []error{later, elsewhere, end} {
				is(t, err, dbscope.ErrRolledBack)
				if fail == nil {
					is(t, err, errStop)
				}
			}
			var commit *dbscope.CommitError
			if !errors.As(end, &commit) {
				t.Errorf("the commit's error is %v", end)
			}
			equal(t, "stored", append(f.Rows(), other.Rows()...))
			if hooks != 0 {
				t.Error("a hook of a commit that cannot be ran")
			}
		})
	}
}

func TestAJoinThatFailsBeforeAnythingIsOpenFailsTheUnit(t *testing.T) {
	f, db := newFake(t)
	for name, after := range map[string]func(ctx context.Context){
		"nothing follows":              func(context.Context) {},
		"a statement is asked for":     func(ctx context.Context) { is(t, drivertest.Exec(ctx, db, "a"), dbscope.ErrRolledBack) },
		"an early commit is asked for": func(ctx context.Context) { is(t, db.Commit(ctx), errStop) },
		"an early rollback of one DB": func(ctx context.Context) {
			is(t, drivertest.Exec(ctx, db, "a"), dbscope.ErrRolledBack)
			ok(t, db.Rollback(ctx))
			is(t, drivertest.Exec(ctx, db, "b"), errStop)
		},
	} {
		var ran []string
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			note := func(what string) func(context.Context) error {
				return func(context.Context) error { ran = append(ran, what); return nil }
			}
			ok(t, errors.Join(dbscope.BeforeCommit(ctx, note("before")), dbscope.AfterCommit(ctx, note("committed")),
				dbscope.AfterRollback(ctx, note("rolled back"))))
			_ = dbscope.Join(ctx, func(context.Context) error { return errStop })
			after(ctx)
			return nil
		})
		equal(t, name+": hooks", ran, "rolled back")
		if !errors.Is(err, dbscope.ErrRolledBack) || !errors.Is(err, errStop) {
			t.Errorf("%s: the unit ended with %v", name, err)
		}
	}
	equal(t, "stored", f.Rows())
	if slices.Contains(f.Log(), "begin") {
		t.Errorf("a transaction was begun: %v", f.Log())
	}
}

func TestRollingTheScopeBackBeginsAnewAfterAJoinThatFailed(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_ = dbscope.Join(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "half"), errStop) })
		scope, _ := dbscope.FromContext(ctx)
		ok(t, scope.Rollback(ctx))
		return drivertest.Exec(ctx, db, "anew")
	}))
	equal(t, "stored", f.Rows(), "anew")
}

func TestNothingEndsWhileAJoinRuns(t *testing.T) {
	for name, end := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx], *dbscope.Scope) error{
		"Scope.Commit":   earlyEnds["Scope.Commit"],
		"Scope.Rollback": earlyEnds["Scope.Rollback"],
		"DB.Commit":      earlyEnds["DB.Commit"],
		"DB.Rollback":    earlyEnds["DB.Rollback"],
		"DB.Release": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], _ *dbscope.Scope) error {
			return db.Release(ctx)
		},
		"a handle's commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], _ *dbscope.Scope) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			return tx.Commit(ctx)
		},
		"CommitOpen": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], _ *dbscope.Scope) error {
			return db.Atomic(ctx, func(context.Context) error { t.Error("the block ran"); return nil }, dbscope.CommitOpen)
		},
		"ContinueOpen": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], _ *dbscope.Scope) error {
			return db.Atomic(ctx, func(context.Context) error { t.Error("the block ran"); return nil }, dbscope.ContinueOpen)
		},
	} {
		for _, open := range []bool{true, false} {
			f, db := newFake(t)
			ctx, scope := dbscope.Begin(t.Context())
			ok(t, dbscope.Join(ctx, func(ctx context.Context) error {
				if open {
					exec(ctx, t, db, "a")
				}
				is(t, end(ctx, db, scope), dbscope.ErrOpenTransaction)
				return drivertest.Exec(ctx, db, "b")
			}))
			equal(t, name+": stored", f.Rows())
			ok(t, errors.Join(scope.Commit(ctx), scope.End(ctx)))
			if got := f.Rows(); got[len(got)-1] != "b" {
				t.Errorf("%s: stored is %v", name, got)
			}
		}
	}
}

func TestAnAtomicBlockInAJoinIsASavepointThoughNothingIsOpen(t *testing.T) {
	f, db := newFake(t)
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return dbscope.Join(ctx, func(ctx context.Context) error {
			ok(t, db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }))
			is(t, db.Atomic(ctx, func(ctx context.Context) error {
				return errors.Join(drivertest.Exec(ctx, db, "b"), errBroken)
			}), errBroken)
			equal(t, "stored", f.Rows())
			return errStop
		})
	}), errStop)
	equal(t, "stored", f.Rows())
}

func TestAJoinThatFailsInABlockIsUndoneWithTheBlock(t *testing.T) {
	f, db := newFake(t)
	g, other := newFake(t)
	h, untouched := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "kept")
		exec(ctx, t, untouched, "kept too")
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			_ = dbscope.Join(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "half"), errStop) })
			is(t, drivertest.Exec(ctx, db, "more"), errStop)
			return nil
		}), errStop)
		return drivertest.Exec(ctx, db, "after")
	})
	ok(t, err)
	equal(t, "stored", f.Rows(), "kept", "after")
	equal(t, "stored", h.Rows(), "kept too")

	// What it did elsewhere is not undone with the block, and so must not be stored.
	err = dbscope.Run(t.Context(), func(ctx context.Context) error {
		_ = db.Atomic(ctx, func(ctx context.Context) error {
			_ = dbscope.Join(ctx, func(ctx context.Context) error {
				exec(ctx, t, db, "here")
				exec(ctx, t, other, "there")
				return errStop
			})
			return errBroken
		})
		exec(ctx, t, db, "goes on")
		is(t, drivertest.Exec(ctx, other, "does not"), errStop)
		return nil
	})
	is(t, err, errStop)
	equal(t, "stored", f.Rows(), "kept", "after")
	equal(t, "stored elsewhere", g.Rows())
}

func TestAnInnerBlockDoesNotLiftWhatAJoinAroundItHasDecided(t *testing.T) {
	f, db := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		return db.Atomic(ctx, func(outer context.Context) error {
			exec(outer, t, db, "outer")
			_ = db.Atomic(outer, func(inner context.Context) error {
				_ = dbscope.Join(inner, func(context.Context) error { return errBroken })
				_ = dbscope.Join(outer, func(context.Context) error { return errStop })
				return errBroken
			})
			is(t, drivertest.Exec(outer, db, "more"), dbscope.ErrRolledBack)
			return nil
		})
	})
	is(t, err, dbscope.ErrRolledBack)
	equal(t, "stored", f.Rows())
}

func TestJoinCannotChangeTheUnitThatItJoins(t *testing.T) {
	_, db := newFake(t)
	for name, opt := range map[string]dbscope.Option{
		"read-only":    dbscope.ReadOnly(),
		"deferrable":   dbscope.Deferrable(),
		"Serializable": dbscope.Isolation(6),
	} {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			err := dbscope.Join(ctx, func(context.Context) error { t.Error("it ran"); return nil }, opt)
			is(t, err, dbscope.ErrOpenTransaction)
			if !strings.Contains(err.Error(), name) {
				t.Errorf("the error does not name what is wrong: %v", err)
			}
			return drivertest.Exec(ctx, db, "goes on")
		}))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			return dbscope.Join(ctx, func(context.Context) error { return nil }, opt,
				dbscope.Retry(dbscope.RetryPolicy{}), dbscope.CommitTimeout(1), dbscope.OnHookError(nil))
		}, opt))
	}
}

func TestAUnitIsRunAgainWhenAJoinInItFailedForAReasonThatPasses(t *testing.T) {
	f, db := newFake(t)
	attempts := 0
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		attempts++
		_ = dbscope.Join(ctx, func(ctx context.Context) error { // ignored
			if attempts == 1 {
				return drivertest.ErrTransient
			}
			return drivertest.Exec(ctx, db, "a")
		}, dbscope.Retry(dbscope.RetryPolicy{}))
		_ = drivertest.Exec(ctx, db, "b")
		return nil
	}, dbscope.Retry(dbscope.RetryPolicy{MinDelay: 1})))
	equal(t, "stored", f.Rows(), "a", "b")
	if attempts != 2 {
		t.Errorf("there were %d attempts", attempts)
	}
}

func TestAUnitDoesNotEndWellWhileAJoinRuns(t *testing.T) {
	f, db := newFake(t)
	begun, end := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		go func() {
			done <- dbscope.Join(ctx, func(ctx context.Context) error {
				exec(ctx, t, db, "half")
				close(begun)
				<-end
				return drivertest.Exec(ctx, db, "other half")
			})
		}()
		<-begun
		return nil
	})
	is(t, err, dbscope.ErrRolledBack)
	close(end)
	is(t, <-done, dbscope.ErrScopeEnded)
	equal(t, "stored", f.Rows())
}

func TestABlockDoesNotEndWellWhileAJoinInItRuns(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		begun, end := make(chan struct{}), make(chan struct{})
		done := make(chan error, 1)
		err := db.Atomic(ctx, func(ctx context.Context) error {
			exec(ctx, t, db, "half")
			go func() {
				done <- dbscope.Join(ctx, func(context.Context) error { close(begun); <-end; return nil })
			}()
			<-begun
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		close(end)
		ok(t, <-done)
		return nil
	}))
	equal(t, "stored", f.Rows())
}

func TestInAScopeThatAMiddlewareHasEndedJoinBeginsNothing(t *testing.T) {
	f, db := newFake(t)
	ctx, _ := dbscope.Begin(t.Context())
	scope, _ := middleware.ScopeOf(ctx)
	exec(ctx, t, db, "a")
	ok(t, scope.Abort(ctx, errStop))
	err := dbscope.Join(ctx, func(context.Context) error { t.Error("it ran"); return nil })
	is(t, err, dbscope.ErrRolledBack)
	is(t, err, errStop)
	equal(t, "stored", f.Rows())
}

func TestJoinIsAPartOfAGroupsFunction(t *testing.T) {
	for name, stored := range map[string][]string{"each for itself": {"a"}, "together": nil} {
		f, db := newFake(t)
		g := dbscope.NewGroup(t.Context())
		g.SetLimit(1)
		if name == "together" {
			g.CommitTogether()
		}
		g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
		g.Go(func(ctx context.Context) error {
			_ = dbscope.Join(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "half"), errStop) })
			return nil
		})
		is(t, g.Wait(), errStop)
		equal(t, name, f.Rows(), stored...)
	}
}

func TestJoinsAndEndsSideBySideNeverStoreHalf(t *testing.T) {
	for range races() {
		f, db := newFake(t)
		ctx, scope := dbscope.Begin(t.Context())
		var joined, committed error
		sideBySide(func() {
			joined = dbscope.Join(ctx, func(ctx context.Context) error {
				if err := drivertest.Exec(ctx, db, "a"); err != nil {
					return err
				}
				return errStop
			})
		}, func() { committed = scope.Commit(ctx) })
		end := errors.Join(scope.Commit(ctx), scope.End(ctx))
		if len(f.Rows()) != 0 {
			t.Fatalf("half was stored: joined %v, committed %v, ended %v", joined, committed, end)
		}
		is(t, end, dbscope.ErrRolledBack)
	}
}

func TestJoinAllocatesNothing(t *testing.T) {
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		fn := func(context.Context) error { return nil }
		if n := testing.AllocsPerRun(100, func() { _ = dbscope.Join(ctx, fn) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		return nil
	}))
}
