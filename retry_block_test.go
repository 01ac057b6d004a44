package dbscope_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestAnAtomicBlockThatIsATransactionIsRunAgainAlone(t *testing.T) {
	for _, mode := range []dbscope.AtomicOption{nil, dbscope.CommitOpen, dbscope.RollbackOpen, dbscope.RefuseOpen} {
		f, db := newFake(t)
		f.Inject("exec", drivertest.Fault{})
		f.Inject("exec", transient)
		f.Inject("commit", drivertest.Fault{})
		f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
		opts := []dbscope.AtomicOption{quickly}
		if mode != nil {
			opts = append(opts, mode)
		}
		units, blocks := 0, 0
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			units++
			exec(ctx, t, db, "before")
			ok(t, db.Commit(ctx))
			return db.Atomic(ctx, func(ctx context.Context) error {
				blocks++
				return drivertest.Exec(ctx, db, "block")
			}, opts...)
		}))
		if units != 1 || blocks != 3 {
			t.Errorf("%v: %d units, %d blocks", mode, units, blocks)
		}
		equal(t, "rows", f.Rows(), "before", "block")
	}
}

// The hook has had its transaction: it would not run before the next COMMIT, nor
// after it.
func TestAnAtomicBlockForWhichAHookWaitsIsNotRunAgain(t *testing.T) {
	for _, registered := range []bool{false, true} {
		f, db := newFake(t)
		var j journal
		f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			if registered {
				j.watch(ctx, t, "DB", db)
			}
			return db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "block") }, quickly)
		})
		if !registered {
			ok(t, err)
			equal(t, "rows", f.Rows(), "block")
			continue
		}
		is(t, err, drivertest.ErrTransient)
		equal(t, "rows", f.Rows())
		equal(t, "hooks", j.take(), "DB before", "DB undone")
	}
}

func TestAnAtomicBlockIsRunAgainAlsoWhereFnHidesTheFailure(t *testing.T) {
	for _, end := range []error{nil, errStop} {
		f, db := newFake(t)
		f.Inject("exec", transient)
		n := 0
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			return db.Atomic(ctx, func(ctx context.Context) error {
				n++
				_ = drivertest.Exec(ctx, db, "a")
				return end
			}, quickly)
		}), end)
		if n != 2 {
			t.Errorf("%d attempts", n)
		}
	}
}

func TestAnAtomicBlockThatIsPartOfATransactionIsNotRunAgain(t *testing.T) {
	for name, outer := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx], func(context.Context) error) error{
		"in an open transaction": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], fn func(context.Context) error) error {
			return errors.Join(drivertest.Exec(ctx, db, "before"), fn(ctx))
		},
		"in a block": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], fn func(context.Context) error) error {
			return db.Atomic(ctx, fn)
		},
	} {
		f, db := newFake(t)
		n := 0
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			return outer(ctx, db, func(ctx context.Context) error {
				return db.Atomic(ctx, func(ctx context.Context) error {
					n++
					f.Inject("exec", transient)
					return drivertest.Exec(ctx, db, "a")
				}, quickly)
			})
		}), drivertest.ErrTransient)
		if n != 1 {
			t.Errorf("%s: %d attempts", name, n)
		}
	}
}

func TestAppendToAnOpenTransactionIsNotRunAgain(t *testing.T) {
	f, db := newFake(t)
	n := 0
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "before")
		return db.Atomic(ctx, func(ctx context.Context) error {
			n++
			f.Inject("exec", transient)
			return drivertest.Exec(ctx, db, "a")
		}, dbscope.ContinueOpen, quickly)
	}), drivertest.ErrTransient)
	if n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// Only the whole unit could undo that.
func TestAnAtomicBlockThatUsedAnotherSessionIsNotRunAgain(t *testing.T) {
	for _, before := range []bool{false, true} {
		for _, inside := range []bool{false, true} {
			f, db := newFake(t)
			other := f.DB()
			if before {
				other = db.Sibling("s")
			}
			n := 0
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if before {
					exec(ctx, t, other, "before")
				}
				return db.Atomic(ctx, func(ctx context.Context) error {
					n++
					if inside {
						exec(ctx, t, other, "other")
					}
					if n == 1 {
						f.Inject("exec", transient)
					}
					return drivertest.Exec(ctx, db, "a")
				}, quickly)
			})
			if inside {
				is(t, err, drivertest.ErrTransient)
			} else {
				ok(t, err)
			}
			if n != map[bool]int{true: 1, false: 2}[inside] {
				t.Errorf("before %v, inside %v: %d attempts", before, inside, n)
			}
		}
	}
}

func TestAnAtomicBlockThatUsedAndEndedAnotherSessionIsNotRunAgain(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	for name, end := range map[string]func(context.Context, DB) error{
		"commit":   func(ctx context.Context, db DB) error { return db.Commit(ctx) },
		"rollback": func(ctx context.Context, db DB) error { return db.Rollback(ctx) },
	} {
		for _, before := range []bool{false, true} {
			f, db := newFake(t)
			other, n := f.DB(), 0
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				if before {
					exec(ctx, t, other, "before")
				}
				return db.Atomic(ctx, func(ctx context.Context) error {
					n++
					if before {
						ok(t, end(ctx, other))
					}
					exec(ctx, t, other, "inside")
					if !before {
						ok(t, end(ctx, other))
					}
					f.Inject("exec", transient)
					return drivertest.Exec(ctx, db, "a")
				}, quickly)
			}), drivertest.ErrTransient)
			if n != 1 {
				t.Errorf("%s, before %v: %d attempts", name, before, n)
			}
		}
	}
}

// What the block cannot repeat, the unit around it can.
func TestAUnitIsRunAgainForItsAtomicBlock(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", drivertest.Fault{})
	f.Inject("exec", transient)
	units, blocks := 0, 0
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		units++
		exec(ctx, t, db, "before")
		return db.Atomic(ctx, func(ctx context.Context) error {
			blocks++
			return drivertest.Exec(ctx, db, "block")
		}, quickly)
	}, quickly))
	if units != 2 || blocks != 2 {
		t.Errorf("%d units, %d blocks", units, blocks)
	}
	equal(t, "rows", f.Rows(), "before", "block")
}

func TestAnAtomicBlockIsNotRunAgainWhereThatCannotHelp(t *testing.T) {
	for name, c := range map[string]struct {
		step  string
		fault drivertest.Fault
		want  error
	}{
		"another failure":    {"exec", drivertest.Fault{Err: errBroken}, errBroken},
		"an unknown outcome": {"commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.Unknown}, dbscope.ErrCommitUnknown},
	} {
		f, db := newFake(t)
		f.Inject(c.step, c.fault)
		n := 0
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			is(t, db.Atomic(ctx, func(ctx context.Context) error { n++; return drivertest.Exec(ctx, db, "a") }, quickly), c.want)
			return nil
		}))
		if n != 1 {
			t.Errorf("%s: %d attempts", name, n)
		}
	}
}

func TestAnAtomicBlocksAttemptsEndWithTheirNumberAndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		n := 0
		block := func(ctx context.Context, attempts int) error {
			n = 0
			return db.Atomic(ctx, func(ctx context.Context) error {
				n++
				f.Inject("exec", transient)
				return drivertest.Exec(ctx, db, "a")
			}, dbscope.Retry(dbscope.RetryPolicy{Attempts: attempts, MinDelay: time.Hour, MaxDelay: time.Hour}))
		}
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
			start := time.Now()
			is(t, block(ctx, 2), drivertest.ErrTransient)
			if d := time.Since(start); n != 2 || d < time.Hour/2 || d > time.Hour {
				t.Errorf("%d attempts, %v", n, d)
			}
			start = time.Now()
			time.AfterFunc(time.Minute, func() { cancel(errStop) })
			err := block(ctx, 5)
			is(t, err, drivertest.ErrTransient)
			is(t, err, errStop)
			if d := time.Since(start); n != 1 || d != time.Minute {
				t.Errorf("%d attempts, %v", n, d)
			}
			return nil
		}))
	})
}

func TestHooksOfAnAtomicBlocksUndoneAttemptRunAsUndoneOnly(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	var j journal
	names := []string{"first", "second"}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, db.Atomic(ctx, func(ctx context.Context) error {
			name := names[0]
			names = names[1:]
			j.watch(ctx, t, name)
			j.watch(ctx, t, name+"'s db", db)
			return drivertest.Exec(ctx, db, "a")
		}, quickly))
		equal(t, "the database's hooks", j.take(), "first's db undone", "second's db before", "second's db committed")
		return nil
	}))
	equal(t, "the scope's hooks", j.take(), "second before", "first undone", "second committed")
}

// Again is Run's loop for those who begin scopes themselves. They may not know
// the error.
func TestAgainTellsWhetherAnUndoneUnitIsToBeRunAgain(t *testing.T) {
	intact := drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Intact}
	other := drivertest.Fault{Err: errBroken, Fate: driver.Aborted}
	for _, c := range []struct {
		fault   drivertest.Fault
		attempt int
		end     func(error) error
		want    bool
	}{
		{transient, 1, shown, true},
		{transient, 2, shown, true},
		{transient, 3, shown, false}, // the policy's last
		{transient, 1, hidden, true},
		{transient, 1, replaced, true},
		{intact, 1, shown, true},
		{intact, 1, hidden, true},
		{intact, 1, replaced, false}, // this failure undid nothing, and fn went on
		{other, 1, shown, false},
		{other, 1, hidden, false},
		{drivertest.Fault{}, 1, replaced, false},
	} {
		f, db := newFake(t)
		for _, opts := range [][]dbscope.Option{{quickly}, nil} {
			f.Inject("exec", c.fault)
			ctx, scope := begin(t.Context(), opts...)
			err := drivertest.Exec(ctx, db, "a")
			ok(t, scope.End(ctx))
			if got := scope.Again(t.Context(), c.attempt, c.end(err)); got != (c.want && opts != nil) {
				t.Errorf("Again is %v after attempt %d with %v", got, c.attempt, c)
			}
		}
	}
}

func shown(err error) error { return err }
func hidden(error) error    { return nil }
func replaced(error) error  { return errStop }

func TestNothingThatWasCommittedIsToBeRunAgain(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := begin(t.Context(), quickly)
	exec(ctx, t, db, "a")
	ok(t, scope.Commit(ctx))
	f.Inject("exec", transient)
	err := drivertest.Exec(ctx, db, "b")
	ok(t, scope.End(ctx))
	if scope.Again(ctx, 1, err) {
		t.Error("it is run again")
	}
}

// A middleware tells its client so, with Retry or without.
func TestTransientTellsWhetherAFailedCommitIsWorthAnotherCall(t *testing.T) {
	undone := func(err error) drivertest.Fault { return drivertest.Fault{Err: err, Outcome: driver.RolledBack} }
	for name, c := range map[string]struct {
		fault   drivertest.Fault
		prepare func(context.Context, *dbscope.DB[*drivertest.Tx]) error
		want    bool
	}{
		"a conflict":                 {fault: undone(drivertest.ErrTransient), want: true},
		"any other failure":          {fault: undone(errBroken)},
		"an outcome that is unknown": {fault: drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.Unknown}},
		"a conflict after an early commit": {
			fault: undone(drivertest.ErrTransient),
			prepare: func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
				return errors.Join(drivertest.Exec(ctx, db, "early"), db.Commit(ctx))
			},
		},
	} {
		for _, opts := range [][]dbscope.Option{nil, {quickly}} {
			f, db := newFake(t)
			ctx, scope := begin(t.Context(), opts...)
			if c.prepare != nil {
				ok(t, c.prepare(ctx, db))
			}
			f.Inject("commit", c.fault)
			exec(ctx, t, db, "a")
			err := scope.Commit(ctx)
			if got := scope.Transient(err); err == nil || got != c.want {
				t.Errorf("%s: Transient(%v) is %v", name, err, got)
			}
			ok(t, scope.End(ctx))
		}
	}
}

func TestAgainBlocksForTheWaitOrUntilTheContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		hourly := dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Hour, MaxDelay: time.Hour})
		parent, cancel := context.WithTimeout(t.Context(), 61*time.Minute)
		defer cancel()
		for _, want := range []bool{true, false} {
			f.Inject("exec", transient)
			ctx, scope := begin(parent, hourly)
			err := drivertest.Exec(ctx, db, "a")
			ok(t, scope.End(ctx))
			start := time.Now()
			if !want { // a minute is left, of a wait of half an hour at least
				time.Sleep(time.Until(mustDeadline(parent)) - time.Minute)
				start = time.Now()
			}
			if got := scope.Again(parent, 1, err); got != want {
				t.Errorf("Again is %v", got)
			}
			if d := time.Since(start); want && d < time.Hour/2 || !want && d != time.Minute {
				t.Errorf("it took %v", d)
			}
		}
	})
}

func mustDeadline(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}
