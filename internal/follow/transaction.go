package follow

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/callers"
	"github.com/dbscope/dbscope/observe"
)

// transaction is one of a unit. The unit's mu guards it.
type transaction struct {
	u     *Unit
	event observe.Event
	at    *callers.Trace // where it was opened
	doing observe.Event  // what is being done in it, of the zero kind where it is idle
	since time.Time      // of that
	timer *time.Timer    // looks whether it is idle for too long
	told  Suspicion      // what was found of this idling
}

// traceKey is the key of a trace in the context with which a transaction begins: of several
// followers the first takes it for all.
type traceKey struct{}

func (u *Unit) begin(ctx context.Context, e observe.Event) (context.Context, *transaction) {
	at, taken := ctx.Value(traceKey{}).(*callers.Trace)
	if !taken {
		at = &callers.Trace{}
		at.Take()
		ctx = context.WithValue(ctx, traceKey{}, at)
	}
	t := &transaction{u: u, event: e, at: at, since: e.Time}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.event.Name = e.Name // which may have come to be known
	u.open = append(u.open, t)
	if limit := u.f.c.Idle; limit > 0 {
		t.timer = time.AfterFunc(limit, t.look)
	}
	return ctx, t
}

// Start implements [observe.Observer].
func (t *transaction) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	u := t.u
	u.mu.Lock()
	if t.doing.Kind == 0 {
		t.rested(e.Time)
	}
	if t.told != 0 {
		t.timer.Reset(u.f.c.Idle)
	}
	t.doing, t.since, t.told = e, e.Time, 0
	u.mu.Unlock()
	if limit := u.f.c.Savepoints; e.Kind == observe.Savepoint && limit > 0 && e.Savepoints > limit {
		u.find(ctx, Finding{Suspicion: Savepoints, DB: e.DB, Opened: u.opened(), At: u.here(), Count: e.Savepoints, Limit: limit, Time: e.Time})
	}
	return ctx, t
}

// shortestIdle is what a timeline shows.
const shortestIdle = time.Millisecond

// rested counts the time in which the application did something else. The caller holds
// mu.
func (t *transaction) rested(until time.Time) {
	d := until.Sub(t.since)
	if d >= shortestIdle {
		t.u.step(observe.Event{DB: t.event.DB, Time: t.since, Duration: d})
	}
	t.u.idle += d
	t.u.longest = max(t.u.longest, d)
	if t.told != 0 {
		t.u.lasted(t, d)
	}
}

// lasted notes how long a transaction was idle of which that was found. The caller holds
// mu.
func (u *Unit) lasted(t *transaction, d time.Duration) {
	for i := range u.found {
		if f := &u.found[i]; f.isOf(t) {
			f.Duration = d
		}
	}
}

// isOf reports whether it is that a transaction is idle, now.
func (f *Finding) isOf(t *transaction) bool {
	return (f.Suspicion == Idle || f.Suspicion == NotEnded) && f.DB == t.event.DB && f.Time.Equal(t.since)
}

// End implements [observe.Span].
func (t *transaction) End(ctx context.Context, e observe.Event) {
	u := t.u
	if e.Kind == observe.Transaction {
		u.mu.Lock()
		if t.timer != nil {
			t.timer.Stop()
		}
		u.open = slices.DeleteFunc(u.open, func(o *transaction) bool { return o == t })
		u.mu.Unlock()
		if u.f.c.Transaction != nil {
			u.f.c.Transaction(e)
		}
		return
	}
	u.mu.Lock()
	t.doing, t.since = observe.Event{}, e.Time.Add(e.Duration)
	u.step(e)
	found, is := t.statement(e)
	u.mu.Unlock()
	if is {
		found.Opened, found.At = u.opened(), u.here()
		u.find(ctx, found)
	}
}

// statement counts a statement, and reports what is suspicious about it. The caller holds
// mu.
func (t *transaction) statement(e observe.Event) (f Finding, is bool) {
	u := t.u
	if e.Kind != observe.Statement || errors.Is(e.Err, driver.ErrNotSent) {
		return f, false
	}
	u.statements += e.Statements
	if e.Err != nil {
		u.failure = e.Err
	}
	f = Finding{DB: e.DB, Text: shortened(e.Text), Time: e.Time}
	if e.LeftOpen {
		f.Suspicion = LeftOpen
		return f, true
	}
	limit := u.f.c.Repetitions
	if limit == 0 || e.Statements != 1 || !isQuery(e.Text) {
		return f, false
	}
	key := fingerprint(e.Text)
	i := slices.IndexFunc(u.counted, func(c count) bool { return c.key == key })
	if i < 0 {
		if len(u.counted) == mostCounted {
			return f, false
		}
		i, u.counted = len(u.counted), append(u.counted, count{key: key, text: f.Text})
	}
	c := &u.counted[i]
	c.n++
	f.Suspicion, f.Count, f.Limit, f.Text = Repeated, c.n, limit, c.text
	return f, c.n == limit
}

// look is called by the timer. It finds a transaction that is idle for too long, now, and
// comes again.
func (t *transaction) look() {
	u := t.u
	now := time.Now()
	u.mu.Lock()
	limit, next := u.f.c.Idle, NotEnded
	if t.told == 0 {
		next = Idle
	} else {
		limit = u.f.c.NotEnded
	}
	idle := now.Sub(t.since)
	var f Finding
	switch {
	case !slices.Contains(u.open, t): // it is over
	case t.doing.Kind != 0:
		t.timer.Reset(u.f.c.Idle)
	case idle < limit:
		t.timer.Reset(limit - idle)
	default:
		t.told = next
		u.found = slices.DeleteFunc(u.found, func(f Finding) bool { return f.isOf(t) }) // it was not the whole story
		f = Finding{Suspicion: next, DB: t.event.DB, Duration: idle, Time: t.since}
		if later := u.f.c.NotEnded; next == Idle && later > 0 {
			t.timer.Reset(max(later-idle, time.Millisecond))
		}
		// After the second nothing is left to say of this idling: the next statement sets
		// the timer again.
	}
	u.mu.Unlock()
	if f.Suspicion != 0 {
		f.Opened = t.at.Place(u.f.c.Libraries...)
		u.find(u.ctx, f)
	}
}
