package follow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

var ok = check.OK

// follower keeps what it is told.
type follower struct {
	mu    sync.Mutex
	found []follow.Finding
	over  []follow.State
	units []*follow.Unit
}

func newFollower(t *testing.T, limits follow.Limits, opts ...dbscope.DBOption) (*follower, *drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	t.Helper()
	f := &follower{}
	o := follow.New(follow.Config{
		Limits: limits, Steps: 100, Texts: true,
		Begun: func(u *follow.Unit) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.units = append(f.units, u)
		},
		Found: func(_ context.Context, _ *follow.Unit, found follow.Finding) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.found = append(f.found, found)
		},
		Over: func(_ context.Context, u *follow.Unit, _ observe.Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.over = append(f.over, u.State())
		},
	})
	fake := drivertest.NewFake()
	return f, fake, fake.DB(append(opts, dbscope.Observe(o))...)
}

// finds fails the test unless it is that which was found, in this order.
func (f *follower) finds(t *testing.T, want ...follow.Suspicion) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var got []follow.Suspicion
	for _, found := range f.found {
		got = append(got, found.Suspicion)
		if found.DB != "fake" || found.Sentence() == "" {
			t.Errorf("found %+v", found)
		}
	}
	check.Equal(t, "found", got, want...)
}

// at fails the test unless the place is in this file.
func at(t *testing.T, what, place string) {
	t.Helper()
	if !strings.Contains(place, "follow_test.go:") {
		t.Errorf("%s at %q, want a line of the test", what, place)
	}
}

func exec(ctx context.Context, db *dbscope.DB[*drivertest.Tx], rows ...string) error {
	for _, row := range rows {
		if err := drivertest.Exec(ctx, db, row); err != nil {
			return err
		}
	}
	return nil
}

func TestATransactionThatIsIdleForLongIsFoundWhileItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, db := newFollower(t, follow.Limits{Idle: time.Second})
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, exec(ctx, db, "a"))
			for range 5 {
				time.Sleep(900 * time.Millisecond) // not too long at a time
				ok(t, exec(ctx, db, "a"))
			}
			f.finds(t)
			time.Sleep(1100 * time.Millisecond)
			f.finds(t, follow.Idle)
			return exec(ctx, db, "b")
		}))
		f.finds(t, follow.Idle)
		at(t, "it was opened", f.found[0].Opened.String())
		if found := f.over[0].Found; len(found) != 1 || found[0].Duration != 1100*time.Millisecond {
			t.Errorf("in the end it was %+v", found)
		}
		if s := f.over[0]; s.Idle < 5*time.Second || s.Longest != 1100*time.Millisecond {
			t.Errorf("the unit was idle for %v, at most %v at a time", s.Idle, s.Longest)
		}
	})
}

func TestAUnitThatNobodyEndsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, db := newFollower(t, follow.Limits{Idle: time.Second, NotEnded: time.Minute})
		ctx, scope := dbscope.Begin(t.Context())
		ok(t, exec(ctx, db, "a"))
		time.Sleep(time.Hour)
		synctest.Wait()
		f.finds(t, follow.Idle, follow.NotEnded)
		if s := f.units[0].State(); len(s.Found) != 1 || s.Idle < time.Hour {
			t.Errorf("its state is %+v", s)
		}
		ok(t, scope.End(ctx))
	})
}

func TestAUnitWithoutATransactionIsNeverIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, db := newFollower(t, follow.Limits{Idle: time.Second})
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			time.Sleep(time.Hour)
			ok(t, exec(ctx, db, "a"))
			ok(t, db.Commit(ctx))
			time.Sleep(time.Hour)
			return nil
		}))
		f.finds(t)
	})
}

func TestTheSameQueryManyTimesIsFoundOnce(t *testing.T) {
	for name, c := range map[string]struct {
		query func(n int) string
		want  []follow.Suspicion
	}{
		"a query":                    {func(int) string { return "select * from lines where id = $1" }, []follow.Suspicion{follow.Repeated}},
		"with values pasted into it": {func(n int) string { return fmt.Sprintf("select * from l1 where id = %d and s = 'n%d'", n, n) }, []follow.Suspicion{follow.Repeated}},
		"of other tables each":       {func(n int) string { return fmt.Sprintf("select * from t%d", n) }, nil},
		"that writes":                {func(int) string { return "insert into lines values ($1)" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, db := newFollower(t, follow.Limits{Repetitions: 10})
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				tx, err := db.Session(ctx)
				ok(t, err)
				for n := range 30 {
					rows, err := tx.Query(ctx, c.query(n))
					ok(t, err)
					ok(t, rows.Close())
				}
				return nil
			}))
			f.finds(t, c.want...)
			if len(c.want) > 0 {
				at(t, "it was run", f.found[0].At.String())
			}
		})
	}
}

func TestLiveSavepointsAreCounted(t *testing.T) {
	f, _, db := newFollower(t, follow.Limits{Savepoints: 3})
	var nested func(ctx context.Context, deep int) error
	nested = func(ctx context.Context, deep int) error {
		ok(t, exec(ctx, db, "a"))
		if deep == 0 {
			return nil
		}
		return db.Atomic(ctx, func(ctx context.Context) error { return nested(ctx, deep-1) })
	}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		for range 10 { // one after the other there is one at a time
			ok(t, nested(ctx, 1))
		}
		return nested(ctx, 3)
	}))
	f.finds(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return nested(ctx, 4) }))
	f.finds(t, follow.Savepoints)
	if found := f.found[0]; found.Count != 4 || found.Limit != 3 {
		t.Errorf("found %d of %d", found.Count, found.Limit)
	}
}

func TestAUnitAboveItsBudgetIsFound(t *testing.T) {
	f, _, db := newFollower(t, follow.Limits{})
	both := func(most int) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, exec(ctx, db, "a"))
			return dbscope.Run(ctx, func(ctx context.Context) error { return exec(ctx, db, "b") })
		}, dbscope.MaxConns(most)))
	}
	both(0)
	both(2)
	f.finds(t)
	both(1)
	f.finds(t, follow.Connections)
	at(t, "it was taken", f.found[0].At.String())
}

func TestALongWaitForAConnectionIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, fake, db := newFollower(t, follow.Limits{Wait: time.Second})
		fake.LimitConns(1)
		var first sync.WaitGroup
		took := make(chan struct{})
		first.Go(func() {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, exec(ctx, db, "a"))
				close(took)
				time.Sleep(1500 * time.Millisecond)
				return nil
			}))
		})
		<-took
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return exec(ctx, db, "b") }))
		first.Wait()
		f.finds(t, follow.Wait)
	})
}

func TestRowsThatAreForgottenAreFound(t *testing.T) {
	f, _, db := newFollower(t, follow.Limits{})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := db.Session(ctx)
		ok(t, err)
		rows, err := tx.Query(ctx, "closed")
		ok(t, err)
		ok(t, rows.Close())
		_, err = tx.Query(ctx, "forgotten")
		return err
	}))
	f.finds(t, follow.LeftOpen)
	if f.found[0].Text != "forgotten" {
		t.Errorf("found %q", f.found[0].Text)
	}
}

func TestAUseThatIsRefusedIsFound(t *testing.T) {
	f, fake, db := newFollower(t, follow.Limits{})
	left := make(chan context.Context, 1)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		left <- ctx
		running, release := make(chan struct{}), make(chan struct{})
		fake.Inject("exec a", drivertest.Fault{Entered: running, Until: release})
		done := make(chan error)
		go func() { done <- exec(ctx, db, "a") }()
		<-running
		check.Is(t, exec(ctx, db, "b"), dbscope.ErrSessionBusy)
		close(release)
		return <-done
	}))
	f.finds(t, follow.Busy)
	ctx := <-left
	check.Is(t, exec(ctx, db, "c"), dbscope.ErrScopeEnded)
	_, err := db.Session(ctx)
	check.Is(t, err, dbscope.ErrScopeEnded)
	f.finds(t, follow.Busy, follow.AfterEnd, follow.AfterEnd) // at another place
	for _, found := range f.found {
		at(t, "it was used", found.At.String())
	}
}

// What is over since it was aborted, or undone, is no news to whoever uses it.
func TestWhatARolledBackUnitRefusesIsNotFound(t *testing.T) {
	f, fake, db := newFollower(t, follow.Limits{})
	fake.Inject("exec", drivertest.Fault{Err: errors.New("gone"), Fate: driver.Undone})
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
		_ = exec(ctx, db, "a")
		check.Is(t, exec(ctx, db, "b"), dbscope.ErrRolledBack)
		return nil
	})
	f.finds(t)
}

func TestTheStateOfAUnitSaysWhatItDoes(t *testing.T) {
	f, fake, db := newFollower(t, follow.Limits{})
	says := func(want string) {
		t.Helper()
		s := f.units[len(f.units)-1].State()
		if !strings.HasPrefix(s.Doing, want) || s.Over {
			t.Errorf("it %q, over: %v; want %q", s.Doing, s.Over, want)
		}
	}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, exec(ctx, db, "a"))
		says("idle in transaction of fake")
		running, release := make(chan struct{}), make(chan struct{})
		fake.Inject("exec b", drivertest.Fault{Entered: running, Until: release})
		done := make(chan error)
		go func() { done <- exec(ctx, db, "b") }()
		<-running
		says("statement on fake")
		close(release)
		ok(t, <-done)
		ok(t, db.Commit(ctx))
		says("holds a connection")
		ok(t, db.Release(ctx))
		says("works without a database")
		return nil
	}, dbscope.Name("job")))
	s := f.over[0]
	var steps []string
	for _, step := range s.Steps {
		if step.Kind != 0 { // which a busy machine adds
			steps = append(steps, step.Kind.String())
		}
	}
	check.Equal(t, "steps", steps, "wait", "begin", "statement", "statement", "commit")
	if !s.Over || s.Event.Name != "job" || s.Statements != 2 || len(s.Open) != 0 || s.Conns != 0 {
		t.Errorf("in the end its state is %+v", s)
	}
}

func TestAFailedStatementIsKept(t *testing.T) {
	f, fake, db := newFollower(t, follow.Limits{})
	lost := errors.New("lost")
	fake.Inject("exec", drivertest.Fault{Err: lost})
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error { return exec(ctx, db, "a") })
	if !errors.Is(f.over[0].Failure, lost) {
		t.Errorf("the failure is %v", f.over[0].Failure)
	}
}

func TestOneUnitDoesNotTakeTheMemory(t *testing.T) {
	f, _, db := newFollower(t, follow.Limits{Repetitions: 1})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := db.Session(ctx)
		ok(t, err)
		for n := range 2000 {
			rows, err := tx.Query(ctx, fmt.Sprintf("select %s from t%d", strings.Repeat("x", 1000), n))
			ok(t, err)
			ok(t, rows.Close())
		}
		return nil
	}))
	s := f.over[0]
	if len(s.Steps) != 100 || s.Dropped < 1900 || len(s.Found) > 20 {
		t.Errorf("%d steps are kept, %d are not, %d things were found", len(s.Steps), s.Dropped, len(s.Found))
	}
	if text := s.Steps[10].Text; len(text) > 600 {
		t.Errorf("%d bytes of a statement are kept", len(text))
	}
}
