package dbscope_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

var transient = drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted}

// quickly has no wait worth a fake clock.
var quickly = dbscope.Retry(dbscope.RetryPolicy{Attempts: 3, MinDelay: time.Microsecond, MaxDelay: time.Microsecond})

// attempts runs a unit whose statement may fail, and counts the calls of fn.
func attempts(t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx], end func(context.Context, error) error, opts ...dbscope.Option) (n int, err error) {
	t.Helper()
	f.Inject("exec", transient)
	err = dbscope.Run(t.Context(), func(ctx context.Context) error {
		n++
		return end(ctx, drivertest.Exec(ctx, db, "a"))
	}, opts...)
	return n, err
}

func pass(_ context.Context, err error) error { return err }

func TestWithoutRetryThereIsOneAttempt(t *testing.T) {
	f, db := newFake(t)
	n, err := attempts(t, f, db, pass)
	is(t, err, drivertest.ErrTransient)
	if n != 1 || strings.Contains(err.Error(), "attempts") {
		t.Errorf("%d attempts: %v", n, err)
	}
}

func TestAUnitUndoneByATransientFailureIsRunAgainAlsoWhereFnHidesIt(t *testing.T) {
	for name, end := range map[string]func(context.Context, error) error{
		"the failure": pass,
		"another error": func(_ context.Context, err error) error {
			if err != nil {
				return errStop
			}
			return nil
		},
		"nil": func(context.Context, error) error { return nil },
	} {
		for _, fate := range []driver.Fate{driver.Lost, driver.Undone, driver.Aborted} {
			f, db := newFake(t)
			f.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: fate})
			n, err := attempts(t, f, db, end, quickly) // one fault of its own
			ok(t, err)
			if n != 3 {
				t.Errorf("%s: %d attempts", name, n)
			}
			equal(t, name, f.Rows(), "a")
		}
	}
}

func TestATransientFailureOfAnyStepOfTheUnitIsRunAgain(t *testing.T) {
	for _, step := range []string{"open", "acquire", "begin", "exec", "commit"} {
		f, db := newFake(t)
		f.Inject(step, drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Intact, Outcome: driver.RolledBack})
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }, quickly))
		equal(t, step, f.Rows(), "a")
	}
}

func TestATransientFailureInABeforeCommitHookIsRunAgain(t *testing.T) {
	f, db := newFake(t)
	n := 0
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		return dbscope.BeforeCommit(ctx, func(ctx context.Context) error {
			if n++; n == 1 {
				f.Inject("exec", transient)
			}
			return drivertest.Exec(ctx, db, "hook")
		})
	}, quickly))
	equal(t, "rows", f.Rows(), "a", "hook")
}

func TestNothingElseIsRunAgain(t *testing.T) {
	intact := drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Intact}
	for name, c := range map[string]struct {
		step  string
		fault drivertest.Fault
		end   func(context.Context, *dbscope.DB[*drivertest.Tx], error) error
		want  error
	}{
		"another failure":              {"exec", drivertest.Fault{Err: errBroken}, nil, errBroken},
		"another failed commit":        {"commit", drivertest.Fault{Err: errBroken, Outcome: driver.RolledBack}, nil, errBroken},
		"an unknown outcome":           {"commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.Unknown}, nil, dbscope.ErrCommitUnknown},
		"fn's own error":               {"", drivertest.Fault{}, func(context.Context, *dbscope.DB[*drivertest.Tx], error) error { return errStop }, errStop},
		"a failure that undid nothing": {"exec", intact, func(context.Context, *dbscope.DB[*drivertest.Tx], error) error { return errStop }, errStop},
		"a mark": {"", drivertest.Fault{}, func(ctx context.Context, _ *dbscope.DB[*drivertest.Tx], _ error) error {
			return dbscope.MarkRollback(ctx)
		}, dbscope.ErrRollbackOnly},
	} {
		f, db := newFake(t)
		f.Inject(c.step, c.fault)
		n := 0
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			n++
			err := drivertest.Exec(ctx, db, "a")
			if c.end != nil {
				err = c.end(ctx, db, err)
			}
			return err
		}, quickly)
		is(t, err, c.want)
		if n != 1 || strings.Contains(err.Error(), "attempts") {
			t.Errorf("%s: %d attempts: %v", name, n, err)
		}
	}
}

// The work of the first attempt would be done twice.
func TestNothingIsRunAgainOnceAnythingOfTheUnitWasCommitted(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	for name, commit := range map[string]func(context.Context, DB) error{
		"DB.Commit":    func(ctx context.Context, db DB) error { return db.Commit(ctx) },
		"the handle's": func(ctx context.Context, db DB) error { tx, _ := db.Session(ctx); return tx.Commit(ctx) },
		"Scope.Commit": func(ctx context.Context, _ DB) error { s, _ := dbscope.FromContext(ctx); return s.Commit(ctx) },
		"an Atomic block's": func(ctx context.Context, db DB) error {
			return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.ContinueOpen)
		},
	} {
		f, db := newFake(t)
		other, n := f.DB(), 0
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			n++
			exec(ctx, t, other, "early")
			ok(t, commit(ctx, other))
			f.Inject("exec", transient)
			return drivertest.Exec(ctx, db, "a")
		}, quickly), drivertest.ErrTransient)
		if n != 1 {
			t.Errorf("%s: %d attempts", name, n)
		}
		equal(t, name, f.Rows(), "early")
	}
}

func TestAPartialCommitIsNotRunAgain(t *testing.T) {
	f, one := newFake(t)
	two := f.DB()
	f.Inject("commit", drivertest.Fault{})
	f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, one, "1")
		exec(ctx, t, two, "2")
		return nil
	}, quickly), drivertest.ErrTransient)
	equal(t, "rows", f.Rows(), "1")
}

// An early rollback leaves nothing behind, and Detached is another unit.
func TestAnEarlyRollbackAndOtherUnitsDoNotPreventAnotherAttempt(t *testing.T) {
	f, db := newFake(t)
	n := 0
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		n++
		exec(ctx, t, db, "undone")
		ok(t, db.Rollback(ctx))
		ok(t, db.Detached(ctx, func(ctx context.Context, tx *drivertest.Tx) error { return tx.Exec(ctx, "detached") }))
		if n == 1 {
			f.Inject("exec", transient)
		}
		return drivertest.Exec(ctx, db, "a")
	}, quickly))
	equal(t, "rows", f.Rows(), "detached", "detached", "a")
}

func TestWaitsAreDoubledUpToTheLongestAndDrawnFromTheirUpperHalf(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		policy dbscope.RetryPolicy
		want   []time.Duration
	}{
		"the defaults":        {dbscope.RetryPolicy{}, []time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms}},
		"the default longest": {dbscope.RetryPolicy{Attempts: 5, MinDelay: 300 * ms}, []time.Duration{300 * ms, 600 * ms, time.Second, time.Second}},
		"a policy":            {dbscope.RetryPolicy{Attempts: 4, MinDelay: 100 * ms, MaxDelay: 250 * ms}, []time.Duration{100 * ms, 200 * ms, 250 * ms}},
		"a longest below all": {dbscope.RetryPolicy{Attempts: 2, MinDelay: time.Minute, MaxDelay: time.Second}, []time.Duration{time.Second}},
		"one attempt":         {dbscope.RetryPolicy{Attempts: 1}, nil},
		"many":                {dbscope.RetryPolicy{Attempts: 100, MaxDelay: 10 * ms}, slicesOf(10*ms, 99)},
		"senseless":           {dbscope.RetryPolicy{Attempts: -1, MinDelay: -1, MaxDelay: -1}, []time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms}},
	} {
		synctest.Test(t, func(t *testing.T) {
			low, high := time.Hour, time.Duration(0) // of the first wait
			for range 40 {
				_, db := newFake(t)
				var starts []time.Time
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					starts = append(starts, time.Now())
					_, err := db.Session(ctx)
					return errors.Join(err, drivertest.ErrTransient)
				}, dbscope.Retry(c.policy))
				is(t, err, drivertest.ErrTransient)
				if len(starts) != len(c.want)+1 {
					t.Fatalf("%s: %d attempts", name, len(starts))
				}
				for i, want := range c.want {
					waited := starts[i+1].Sub(starts[i])
					if waited < want/2 || waited > want {
						t.Errorf("%s: wait %d took %v of %v", name, i+1, waited, want)
					}
					if i == 0 {
						low, high = min(low, waited), max(high, waited)
					}
				}
			}
			if len(c.want) > 0 && high-low < c.want[0]/8 {
				t.Errorf("%s: all waits are between %v and %v", name, low, high)
			}
		})
	}
}

func slicesOf(d time.Duration, n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return all
}

func TestTheErrorOfTheLastAttemptTellsHowManyThereWere(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	f.Inject("exec", transient)
	_, err := attempts(t, f, db, pass, quickly)
	is(t, err, drivertest.ErrTransient)
	if !strings.Contains(err.Error(), "3 attempts failed") {
		t.Errorf("the message is %q", err)
	}
}

func TestAnErrorAfterATransientOneEndsTheAttempts(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
	n := 0
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { n++; return drivertest.Exec(ctx, db, "a") }, quickly), errBroken)
	if n != 2 {
		t.Errorf("%d attempts", n)
	}
}

func TestAContextThatIsDoneEndsTheAttemptsAtOnceAndTheErrorHasBothReasons(t *testing.T) {
	for _, after := range []time.Duration{0, time.Minute} { // in fn, or in the wait
		synctest.Test(t, func(t *testing.T) {
			f, db := newFake(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			start := time.Now()
			n := 0
			f.Inject("exec", transient)
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				n++
				err := drivertest.Exec(ctx, db, "a")
				if after == 0 {
					cancel(errStop)
				} else {
					time.AfterFunc(after, func() { cancel(errStop) })
				}
				return err
			}, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Hour, MaxDelay: time.Hour}))
			is(t, err, drivertest.ErrTransient)
			is(t, err, errStop)
			is(t, err, context.Canceled)
			if d := time.Since(start); d != after || n != 1 {
				t.Errorf("%d attempts, ended after %v", n, d)
			}
		})
	}
}

func TestEachAttemptIsANewUnitWithHooksOfItsOwn(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	var j journal
	scopes := map[*dbscope.Scope]bool{}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		scope, _ := dbscope.FromContext(ctx)
		scopes[scope] = true
		name := map[int]string{1: "first", 2: "second"}[len(scopes)]
		if name == "second" {
			equal(t, "hooks before the second attempt", j.take(), "first undone", "first's db undone")
		}
		j.watch(ctx, t, name)
		j.watch(ctx, t, name+"'s db", db)
		return drivertest.Exec(ctx, db, "a")
	}, quickly))
	equal(t, "hooks", j.take(), "second before", "second's db before", "second committed", "second's db committed")
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "rollback", "release",
		"acquire", "begin", "exec a", "commit", "release")
}
