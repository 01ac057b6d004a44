package follow

import (
	"context"
	"sync"
	"time"

	"github.com/dbscope/dbscope/internal/callers"
	"github.com/dbscope/dbscope/observe"
)

// Config says what a Follower keeps, and whom it tells. The functions may be nil, must not
// block, and are called with nothing locked.
type Config struct {
	Limits
	Libraries []string // whose lines are none of the application's, beside those known
	Steps     int      // how many of a unit are kept for its timeline
	Texts     bool     // those of statements are kept, else only their first words

	Begun func(*Unit)
	Found func(context.Context, *Unit, Finding) // more than once of a kind only where the text or the place differs
	Over  func(context.Context, *Unit, observe.Event)
	Retry func(context.Context, *Unit, observe.Event) // as the wait before the next attempt begins

	Transaction func(observe.Event) // as one is over
}

// Follower is an observer.
type Follower struct{ c Config }

// New returns a Follower.
func New(c Config) *Follower { return &Follower{c} }

// Start implements [observe.Observer].
func (f *Follower) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	if e.Kind != observe.Unit {
		return ctx, nil
	}
	u := &Unit{f: f, event: e}
	u.ctx = context.WithoutCancel(ctx)
	if f.c.Begun != nil {
		f.c.Begun(u)
	}
	return ctx, u
}

// Unit is one that is followed. It is safe for concurrent use.
type Unit struct {
	f   *Follower
	ctx context.Context // with which it began

	mu         sync.Mutex
	event      observe.Event // of its beginning; of its end once it is over
	over       bool
	open       []*transaction
	waits      int // for connections, now
	waiting    time.Time
	waitsFor   string
	calls      int
	conns      int
	statements int
	retries    int
	failure    error // of the last statement that failed
	counted    []count
	found      []Finding
	steps      []Step
	dropped    int // steps that were not kept
	waited     time.Duration
	idle       time.Duration // of all transactions
	longest    time.Duration // idle at a time
}

// count is how often a query was run.
type count struct {
	key  uint64
	text string
	n    int
}

// mostCounted is how many queries are counted of a unit: one that is run in a loop is
// hardly the last of many.
const mostCounted = 64

// Start implements [observe.Span].
func (u *Unit) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	switch e.Kind {
	case observe.Wait:
		u.mu.Lock()
		if u.waits++; u.waits == 1 {
			u.waiting, u.waitsFor = e.Time, e.DB
		}
		u.mu.Unlock()
		return ctx, u
	case observe.Connection:
		u.mu.Lock()
		u.conns++
		u.mu.Unlock()
		if e.MaxConnections > 0 && e.Connections > e.MaxConnections {
			u.find(ctx, Finding{Suspicion: Connections, DB: e.DB, At: u.here(), Count: e.Connections, Limit: e.MaxConnections, Time: e.Time})
		}
		return ctx, u
	case observe.Transaction:
		return u.begin(ctx, e)
	case observe.Call:
		return ctx, u.call(e)
	case observe.Retry:
		u.mu.Lock()
		u.retries++
		u.mu.Unlock()
		if u.f.c.Retry != nil {
			u.f.c.Retry(ctx, u, e)
		}
		return ctx, nil
	case observe.Hook:
		return ctx, u
	}
	return ctx, nil
}

// End implements [observe.Span].
func (u *Unit) End(ctx context.Context, e observe.Event) {
	switch e.Kind {
	case observe.Wait:
		u.mu.Lock()
		u.waits--
		u.waited += e.Duration
		u.step(e)
		u.mu.Unlock()
		if limit := u.f.c.Wait; limit > 0 && e.Duration > limit {
			u.find(ctx, Finding{Suspicion: Wait, DB: e.DB, At: u.here(), Duration: e.Duration, Time: e.Time})
		}
	case observe.Connection:
		u.mu.Lock()
		u.conns--
		u.mu.Unlock()
	case observe.Hook:
		u.mu.Lock()
		u.step(e)
		u.mu.Unlock()
	case observe.Unit:
		u.mu.Lock()
		u.event, u.over = e, true
		u.ctx, u.counted = context.Background(), nil // who keeps the unit does not keep its request
		u.mu.Unlock()
		if u.f.c.Over != nil {
			u.f.c.Over(ctx, u, e)
		}
	}
}

// call is one of another service.
type call struct {
	u  *Unit
	at callers.Trace
}

func (u *Unit) call(e observe.Event) observe.Span {
	c := &call{u: u}
	c.at.Take()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls++
	return c
}

// Start implements [observe.Observer]: nothing is told of inside of calls.
func (c *call) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	return ctx, nil
}

// End implements [observe.Span].
func (c *call) End(ctx context.Context, e observe.Event) {
	c.u.mu.Lock()
	c.u.calls--
	c.u.step(e)
	c.u.mu.Unlock()
	c.u.find(ctx, Finding{
		Suspicion: Call, DB: e.DB, Opened: c.u.opened(), At: c.at.Place(c.u.f.c.Libraries...),
		Text: e.Text, Duration: e.Duration, Time: e.Time,
	})
}

// here is where the calling goroutine is.
func (u *Unit) here() callers.Place {
	var at callers.Trace
	at.Take()
	return at.Place(u.f.c.Libraries...)
}

// opened is where the first of the transactions was opened that are open.
func (u *Unit) opened() (at callers.Place) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.open) > 0 {
		at = u.open[0].at.Place(u.f.c.Libraries...)
	}
	return at
}

// mostFound bounds what is kept of one unit.
const mostFound = 20

// find notes something suspicious and tells of it, unless that was done before.
func (u *Unit) find(ctx context.Context, f Finding) {
	u.mu.Lock()
	for _, known := range u.found {
		if known.Suspicion == f.Suspicion && known.Text == f.Text && known.At == f.At && known.Opened == f.Opened {
			u.mu.Unlock()
			return
		}
	}
	if len(u.found) == mostFound {
		u.mu.Unlock()
		return
	}
	u.found = append(u.found, f)
	u.mu.Unlock()
	if u.f.c.Found != nil {
		u.f.c.Found(ctx, u, f)
	}
}
