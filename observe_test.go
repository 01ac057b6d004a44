package dbscope_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/observe"
)

// teller writes down what it is told, each thing once it is over and in front of what was
// inside it, indented by how deep the contexts say that it is.
type teller struct {
	mu     sync.Mutex
	lines  []string
	open   int // how many have begun and are not over
	events []observe.Event
}

// depthKey is the key of how deep one teller is.
type depthKey struct{ *teller }

// Start implements [observe.Observer].
func (o *teller) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	o.mu.Lock()
	defer o.mu.Unlock()
	depth, _ := ctx.Value(depthKey{o}).(int)
	o.open++
	o.lines = append(o.lines, "")
	return context.WithValue(ctx, depthKey{o}, depth+1), &told{o, len(o.lines) - 1, depth, e.Kind}
}

// told is one line of a teller.
type told struct {
	*teller
	line, depth int
	kind        observe.Kind
}

// End implements [observe.Span].
func (s *told) End(ctx context.Context, e observe.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.events = append(s.events, e)
	var line strings.Builder
	line.WriteString(strings.Repeat(". ", s.depth) + e.Kind.String())
	for _, detail := range []string{e.Name, e.DB, e.Text} {
		if detail != "" {
			line.WriteString(" " + detail)
		}
	}
	if e.Outcome != observe.None {
		line.WriteString(": " + e.Outcome.String())
	}
	if e.Err != nil {
		line.WriteString("!")
	}
	if e.Kind != s.kind || e.Time.IsZero() || e.Duration < 0 || ctx.Value(depthKey{s.teller}) != s.depth+1 {
		line.WriteString(" and its end does not fit its beginning")
	}
	s.lines[s.line] = line.String()
}

// tells fails the test where something else was told, or something is not over.
func (o *teller) tells(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if got, want := strings.Join(o.lines, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("told:\n%s\nwant:\n%s", got, want)
	}
	if o.open != 0 {
		t.Errorf("%d things were told of that are not over", o.open)
	}
}

// last returns the last event of the kind.
func (o *teller) last(t *testing.T, k observe.Kind) observe.Event {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := len(o.events) - 1; i >= 0; i-- {
		if o.events[i].Kind == k {
			return o.events[i]
		}
	}
	t.Fatalf("nothing was told of the kind %s", k)
	return observe.Event{}
}

func TestAnObserverOfAUnitIsToldOfAllThatHappensInIt(t *testing.T) {
	_, db := newFake(t)
	o := &teller{}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			exec(ctx, t, db, "b")
			return errStop
		}), errStop)
		ok(t, db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "c") }))
		ok(t, dbscope.BeforeCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "d") }))
		ok(t, dbscope.AfterCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "e") }))
		return nil
	}, dbscope.Observe(o), dbscope.Name("job")))
	o.tells(t,
		"unit job: committed",
		". wait job fake",
		". connection job fake",
		". transaction job fake: committed",
		". . begin job fake",
		". statement job fake a",
		". savepoint job fake dbscope_1",
		". statement job fake b",
		". rollback to savepoint job fake dbscope_1",
		". savepoint job fake dbscope_2",
		". statement job fake c",
		". release savepoint job fake dbscope_2",
		". hook job before commit",
		". . statement job fake d",
		". commit job fake: committed",
		". hook job after commit",
		". . unit job: committed",
		". . . wait job fake",
		". . . connection job fake",
		". . . transaction job fake: committed",
		". . . . begin job fake",
		". . . statement job fake e",
		". . . commit job fake: committed",
	)
	if e := o.last(t, observe.Unit); e.Parent == 0 || e.Unit == e.Parent || e.Transactions != 1 {
		t.Errorf("the hook's unit is told as %+v", e)
	}
}

func TestAnObserverOfADBIsToldOfAUnitAtItsFirstUse(t *testing.T) {
	o := &teller{}
	_, seen := newFake(t, dbscope.Observe(o), dbscope.Name("seen"))
	_, unseen := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(context.Context) error { return nil }))
	before := time.Now()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, unseen, "a")
		time.Sleep(time.Millisecond)
		exec(ctx, t, seen, "b")
		return nil
	}))
	o.tells(t,
		"unit: committed",
		"wait seen",
		"connection seen",
		"transaction seen: committed",
		". begin seen",
		"statement seen b",
		"commit seen: committed",
	)
	if e := o.last(t, observe.Unit); e.Time.Before(before) || e.Duration < time.Millisecond {
		t.Errorf("the unit began %v after the test, and took %v: want its own beginning", e.Time.Sub(before), e.Duration)
	}
}

func TestAnObserverOfTheUnitAndOfItsDBsIsToldOnce(t *testing.T) {
	o, other := &teller{}, &teller{}
	_, db := newFake(t, dbscope.Observe(o), dbscope.Observe(other))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		exec(ctx, t, db.Sibling("twin"), "b")
		return nil
	}, dbscope.Observe(o)))
	if units := strings.Count(strings.Join(o.lines, "\n"), "unit"); units != 1 {
		t.Errorf("told of %d units, want one:\n%s", units, strings.Join(o.lines, "\n"))
	}
	if len(other.lines) != len(o.lines) || !strings.Contains(strings.Join(other.lines, "\n"), "statement fake/twin b") {
		t.Errorf("the DB's other observer was told:\n%s", strings.Join(other.lines, "\n"))
	}
}

func TestObserversAreToldWhatAUnitFailsWith(t *testing.T) {
	lost := errors.New("lost")
	for name, c := range map[string]struct {
		fn      func(context.Context, *dbscope.DB[*drivertest.Tx]) error
		inject  func(*drivertest.Fake)
		outcome observe.Outcome
		is      error
	}{
		"its function's error": {
			fn:      func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error { return errStop },
			outcome: observe.RolledBack, is: errStop,
		},
		"a commit that is refused": {
			inject:  func(f *drivertest.Fake) { f.Inject("commit", drivertest.Fault{Err: lost, Outcome: driver.RolledBack}) },
			outcome: observe.RolledBack, is: lost,
		},
		"a commit whose answer is lost": {
			inject:  func(f *drivertest.Fake) { f.Inject("commit", drivertest.Fault{Err: lost, Outcome: driver.Unknown}) },
			outcome: observe.Unknown, is: dbscope.ErrCommitUnknown,
		},
		"nothing, where it was marked": {
			fn: func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
				return dbscope.MarkRollback(ctx)
			},
			outcome: observe.RolledBack,
		},
		"nothing, where part was undone early": {
			fn: func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
				return errors.Join(db.Rollback(ctx), drivertest.Exec(ctx, db, "b"))
			},
			outcome: observe.Mixed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := &teller{}
			f, db := newFake(t, dbscope.Observe(o))
			if c.inject != nil {
				c.inject(f)
			}
			_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				if c.fn == nil {
					return nil
				}
				return c.fn(ctx, db)
			})
			switch e := o.last(t, observe.Unit); {
			case e.Outcome != c.outcome:
				t.Errorf("the outcome is %v, want %v", e.Outcome, c.outcome)
			case !errors.Is(e.Err, c.is):
				t.Errorf("the error is %v, want %v", e.Err, c.is)
			}
		})
	}
}

func TestObserversAreToldOfAUnitWhoseFunctionPanics(t *testing.T) {
	o := &teller{}
	_, db := newFake(t, dbscope.Observe(o))
	survive(func() {
		_ = dbscope.Run(context.Background(), func(ctx context.Context) error {
			_ = drivertest.Exec(ctx, db, "a")
			panic("out of order")
		})
	})
	if e := o.last(t, observe.Unit); e.Outcome != observe.RolledBack || e.Err == nil {
		t.Errorf("the unit is told as %v, %v", e.Outcome, e.Err)
	}
}

func TestObserversAreToldOfRetries(t *testing.T) {
	o := &teller{}
	f, db := newFake(t, dbscope.Observe(o))
	f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return drivertest.Exec(ctx, db, "a")
	}, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond})))
	if e := o.last(t, observe.Retry); e.Attempt != 2 {
		t.Errorf("told of attempt %d, want 2", e.Attempt)
	}
	if n := strings.Count(strings.Join(o.lines, "\n"), "unit"); n != 2 {
		t.Errorf("told of %d units, want one for each attempt", n)
	}
}

func TestAStatementOutsideOfUnitsIsTold(t *testing.T) {
	o := &teller{}
	f, db := newFake(t, dbscope.Observe(o), dbscope.AllowUnscoped())
	s, err := dbscope.Gate(db).Session(t.Context())
	ok(t, err)
	tx, _, err := f.Adapter().Handle(s)
	ok(t, err)
	ok(t, tx.Exec(t.Context(), "a"))
	o.tells(t, "wait fake", "connection fake", "statement fake a")
}

func TestRowsLeftOpenEndWithTheirTransaction(t *testing.T) {
	o := &teller{}
	_, db := newFake(t, dbscope.Observe(o))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := db.Session(ctx)
		ok(t, err)
		_, err = tx.Query(ctx, "all")
		return err
	}))
	o.tells(t,
		"unit: committed", "wait fake", "connection fake", "transaction fake: committed",
		". begin fake", "statement fake all", "commit fake: committed",
	)
}

func TestAnEarlyCommitKeepsTheConnectionForTheNextTransaction(t *testing.T) {
	o := &teller{}
	_, db := newFake(t, dbscope.Observe(o))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		ok(t, db.Commit(ctx))
		exec(ctx, t, db, "b")
		return nil
	}))
	o.tells(t,
		"unit: committed", "wait fake", "connection fake",
		"transaction fake: committed", ". begin fake", "statement fake a", "commit fake: committed",
		"transaction fake: committed", ". begin fake", "statement fake b", "commit fake: committed",
	)
}

func TestAUnitAboveItsConnectionsIsTold(t *testing.T) {
	o := &teller{}
	_, db := newFake(t, dbscope.Observe(o))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		return dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") })
	}, dbscope.MaxConns(1)))
	var told []string
	for _, e := range o.events {
		if e.Kind == observe.Connection {
			told = append(told, fmt.Sprint(e.Connections, " of ", e.MaxConnections))
		}
	}
	equal(t, "connections", told, "2 of 1", "1 of 1") // the inner one ends first
}

func TestHoldingTellsWhoseConnectionsTheUnitHas(t *testing.T) {
	_, one := newFake(t, dbscope.Name("one"))
	_, two := newFake(t, dbscope.Name("two"))
	equal(t, "held", dbscope.Holding(t.Context()))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		equal(t, "held", dbscope.Holding(ctx))
		exec(ctx, t, one, "a")
		equal(t, "held", dbscope.Holding(ctx), "one")
		exec(ctx, t, two, "b")
		equal(t, "held", dbscope.Holding(ctx), "one", "two")
		ok(t, one.Commit(ctx)) // keeps its connection
		equal(t, "held", dbscope.Holding(ctx), "one", "two")
		ok(t, one.Release(ctx))
		equal(t, "held", dbscope.Holding(ctx), "two")
		return dbscope.Run(ctx, func(ctx context.Context) error {
			equal(t, "held", dbscope.Holding(ctx))
			return nil
		})
	}))
}

func TestASwitchIsTold(t *testing.T) {
	o := &teller{}
	_, db := newFake(t, dbscope.Observe(o), dbscope.Host("old"))
	ok(t, db.SwitchHost(t.Context(), "new"))
	if e := o.last(t, observe.Switch); e.From != "old" || e.Host != "new" || e.Err != nil {
		t.Errorf("told of a switch from %q to %q, %v", e.From, e.Host, e.Err)
	}
	if err := db.SwitchHost(t.Context(), "postgres://me:secret@host/db"); err == nil {
		t.Error("a connection string was taken for a host")
	}
	if e := o.last(t, observe.Switch); e.Host != "" || e.Err == nil {
		t.Errorf("what is no host is told as %q, %v", e.Host, e.Err)
	}
}

func TestWhatBeginsInManyUnitsAtOnceIsOverOnce(t *testing.T) {
	own, ofDB := &teller{}, &teller{}
	f, db := newFake(t, dbscope.Observe(ofDB))
	f.LimitConns(4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := dbscope.NewGroup(t.Context(), dbscope.Observe(own), dbscope.Retry(dbscope.RetryPolicy{Attempts: 10, MinDelay: time.Microsecond}))
	for n := range 40 {
		if n%7 == 0 {
			f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
		}
		g.Go(func(ctx context.Context) error {
			ok(t, drivertest.Exec(ctx, db, "a"))
			var both sync.WaitGroup
			for range 2 { // of which one may be refused
				both.Go(func() { _ = drivertest.Exec(ctx, db, "b") })
			}
			both.Wait()
			return nil
		})
	}
	ok(t, g.Wait())
	for _, abort := range []bool{false, true} { // a statement that runs while its unit ends
		entered, release := make(chan struct{}), make(chan struct{})
		f.Inject("exec late", drivertest.Fault{Entered: entered, Until: release})
		ctx, scope := begin(ctx, dbscope.Observe(own))
		done := make(chan error)
		go func() { done <- drivertest.Exec(ctx, db, "late") }()
		<-entered
		if abort {
			_ = scope.Abort(ctx, errStop)
		} else {
			_ = scope.End(ctx)
		}
		close(release)
		is(t, <-done, dbscope.ErrRolledBack)
	}
	for name, o := range map[string]*teller{"the units' observer": own, "the DB's observer": ofDB} {
		if o.open != 0 || len(o.lines) == 0 {
			t.Errorf("%s was told of %d things, of which %d are not over", name, len(o.lines), o.open)
		}
		for _, line := range o.lines {
			if strings.Contains(line, "does not fit") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}
