package dbscope_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func opens(f *drivertest.Fake) []string {
	return slices.DeleteFunc(f.Log(), func(call string) bool { return !strings.HasPrefix(call, "open") && call != "close" })
}

// R11.
func TestNewSessionsRunOnTheHostThatWasSwitchedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t, dbscope.Host("one"))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "on one")
			ok(t, db.SwitchHost(ctx, "two"))
			if got := db.Host(); got != "two" {
				t.Errorf("the host is %q", got)
			}
			exec(ctx, t, db, "still on one") // the session finishes where it began
			equal(t, "pools", opens(f), "open one", "open two")
			ok(t, db.Commit(ctx))
			synctest.Wait()
			equal(t, "pools", opens(f), "open one", "open two", "close")
			exec(ctx, t, db, "on two")
			return nil
		}))
		equal(t, "stored", f.Rows(), "on one", "still on one", "on two")
		want := "acquire, begin, exec on one, open two, acquire, release, exec still on one, commit, close, " +
			"release, acquire, begin, exec on two, commit, release"
		if got := strings.Join(f.Log()[1:], ", "); got != want {
			t.Errorf("calls are %s\nwant %s", got, want)
		}
		ok(t, db.Close())
	})
}

// Its connection of the old host may never come.
func TestASessionThatWaitsForAConnectionGoesToTheHostThatWasSwitchedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t, dbscope.Host("one"))
		f.Inject("acquire", drivertest.Fault{Until: make(chan struct{})})
		stored := make(chan error)
		go func() {
			stored <- dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
		}()
		synctest.Wait()
		ok(t, db.SwitchHost(t.Context(), "two"))
		ok(t, <-stored)
		equal(t, "stored", f.Rows(), "row")
		synctest.Wait()
		equal(t, "pools", opens(f), "open one", "open two", "close")
		ok(t, db.Close())
	})
}

func TestAHostThatDoesNotAnswerIsNotSwitchedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t, dbscope.Host("one"))
		for step, fault := range map[string]drivertest.Fault{"open": {Err: errBroken}, "acquire": {Err: errBroken}} {
			f.Inject(step, fault)
			err := db.SwitchHost(t.Context(), "two")
			is(t, err, errBroken)
			synctest.Wait()
			if db.Host() != "one" {
				t.Errorf("%s: the host is %q", step, db.Host())
			}
		}
		if err := db.SwitchHost(t.Context(), ""); err == nil {
			t.Error("an empty host was accepted")
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { exec(ctx, t, db, "row"); return nil }))
		ok(t, db.SwitchHost(t.Context(), "one")) // which it is
		synctest.Wait()
		pools := opens(f)
		slices.Sort(pools)
		equal(t, "pools", pools, "close", "open one", "open two", "open two")
		ok(t, db.Close())
	})
}

func TestUnitsGoOnWhileAHostDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t, dbscope.Host("one"))
		store := func() error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
		}
		ok(t, store())
		silent := make(chan struct{})
		f.Inject("acquire", drivertest.Fault{Entered: silent, Until: make(chan struct{})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		switched, waited := make(chan error, 1), make(chan error, 1)
		go func() { switched <- db.SwitchHost(ctx, "two") }()
		<-silent
		ok(t, store())
		// Another switch waits for its turn, as long as it may.
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { waited <- db.SwitchHost(short, "three") }()
		is(t, <-waited, context.DeadlineExceeded)
		is(t, <-switched, context.DeadlineExceeded)
		ok(t, store())
		if db.Host() != "one" {
			t.Errorf("the host is %q", db.Host())
		}
		ok(t, db.SwitchHost(t.Context(), "three"))
		ok(t, store())
		ok(t, db.Close())
		pools := opens(f)
		slices.Sort(pools)
		equal(t, "pools", pools, "close", "close", "close", "open one", "open three", "open two")
	})
}

func TestOfSwitchesSideBySideTheLastToComeWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t, dbscope.Host("one"))
		goOn := make(chan struct{})
		f.Inject("acquire", drivertest.Fault{Until: goOn})
		var switches sync.WaitGroup
		for _, host := range []string{"two", "three", "three", "four"} {
			switches.Go(func() {
				if err := db.SwitchHost(t.Context(), host); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait() // it connects, or waits for its turn
		}
		close(goOn)
		switches.Wait()
		if db.Host() != "four" {
			t.Errorf("the host is %q", db.Host())
		}
		synctest.Wait()
		pools := opens(f)
		slices.Sort(pools)
		equal(t, "pools", pools, "close", "close", "open four", "open three", "open two") // one was never used
		ok(t, db.Close())
	})
}

// R12.
func TestBeforeSessionRunsBeforeEachSessionAndMaySwitch(t *testing.T) {
	var db *dbscope.DB[*drivertest.Tx]
	calls := 0
	f, db := newFake(t, dbscope.Host("one"), dbscope.BeforeSession(func(ctx context.Context) error {
		calls++
		if calls == 3 {
			return errBroken
		}
		// Its own sessions do not call it again.
		if err := dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "looked") }); err != nil {
			return err
		}
		return db.SwitchHost(ctx, fmt.Sprintf("host-%d", calls))
	}))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a", "b")
		ok(t, db.Commit(ctx))
		exec(ctx, t, db, "c")
		return nil
	}))
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "d") }), errBroken)
	equal(t, "stored", f.Rows(), "looked", "a", "b", "looked", "c")
	if db.Host() != "host-2" {
		t.Errorf("the host is %q", db.Host())
	}
	ok(t, db.Close())
}

// Each session asks where to go, and one of them goes there first.
func TestSessionsThatSwitchBeforeTheyOpenShareThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db *dbscope.DB[*drivertest.Tx]
		f, db := newFake(t, dbscope.BeforeSession(func(ctx context.Context) error { return db.SwitchHost(ctx, "found") }))
		goOn := make(chan struct{})
		f.Inject("open", drivertest.Fault{Until: goOn})
		var units sync.WaitGroup
		for range 20 {
			units.Go(func() {
				err := dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // one opens the pool, the others wait for it
		close(goOn)
		units.Wait()
		equal(t, "pools", opens(f), "open found")
		if n := len(f.Rows()); n != 20 {
			t.Errorf("%d rows are stored", n)
		}
		ok(t, db.Close())
	})
}

func TestNoUnitFailsWhileHostsAreSwitched(t *testing.T) {
	f, db := newFake(t, dbscope.Host("host-0"))
	stop := make(chan struct{})
	var units sync.WaitGroup
	for i := range 50 {
		units.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					return errors.Join(drivertest.Exec(ctx, db, "a"), db.Commit(ctx), drivertest.Exec(ctx, db, fmt.Sprint(i)))
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 100 {
		ok(t, db.SwitchHost(t.Context(), fmt.Sprintf("host-%d", n%3)))
	}
	close(stop)
	units.Wait()
	ok(t, db.Close())
	pools := opens(f)
	opened := len(slices.DeleteFunc(slices.Clone(pools), func(call string) bool { return call == "close" }))
	if opened*2 != len(pools) {
		t.Errorf("%d pools were opened, %d closed", opened, len(pools)-opened)
	}
	if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "late") }); err == nil {
		t.Error("a closed DB works")
	}
}
