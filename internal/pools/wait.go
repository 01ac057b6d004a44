package pools

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// Limit bounds a wait for a connection that could be a wait for oneself.
type Limit struct {
	Time time.Duration // none where it is 0
	Why  string        // which connection is held meanwhile, and what to do
}

// A unit that waits for a connection while it, or the caller that waits for it, holds
// one of the same pool, or one that others wait for, could wait for itself: it waits
// at most this long.
const holdingTimeout = 5 * time.Second

const held = "this unit, one that waits for it, or another function of its Group holds "

// The limits of a unit that holds a connection already.
var (
	HoldsOneOfTheSame = Limit{holdingTimeout, held + "one of the same pool: " +
		"make the pool larger, or release or end the outer unit first"}
	HoldsOneOfAnother = Limit{holdingTimeout, held + "one of another pool that somebody waits for: " +
		"use the databases in the same order everywhere, or make the pools larger"}
)

// Acquire takes a connection of the place's pool for a unit, which is nil where
// there is none. w is new. Where the host is left meanwhile, the error sends
// [Pools.Connect] elsewhere.
func (at Place) Acquire(ctx context.Context, w *Wait, unit Unit, limit func() Limit) (driver.Conn, error) {
	// Count ourselves before looking at others: of two units that wait for each
	// other's pool at least one then sees the other.
	at.pools.takers.Add(1)
	defer at.pools.takers.Add(-1)
	wait, l := ctx, limit()
	if l.Time > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, l.Time)
		defer cancel()
	}
	w.Context, w.at, w.unit = wait, at, unit
	conn, err := at.Host.engine.Acquire(w)
	ended := w.stop()
	left := ended == errLeft //nolint:errorlint // the very one
	switch {
	case err == nil && !left:
		return conn, nil
	case err == nil:
		conn.Release(true)
		return nil, errLeft
	case ctx.Err() != nil:
		return nil, fmt.Errorf("taking a connection: %w", errs.Interrupted(ctx))
	case left:
		return nil, errLeft
	case ended == ErrDeadlock: //nolint:errorlint // as above
		return nil, ErrDeadlock
	case l.Time > 0 && wait.Err() != nil:
		return nil, fmt.Errorf("no connection came free within %v, and %s: %w", l.Time, l.Why, wait.Err())
	default:
		return nil, Unreachable{fmt.Errorf("taking a connection: %w", err)}
	}
}

// Awaited reports whether somebody takes a connection of these pools now.
func (p *Pools) Awaited() bool { return p.takers.Load() > 0 }

// Wait is the context with which a session takes a connection; the zero value is
// for one call of [Place.Acquire]. It ends also when the host is left meanwhile,
// for its connections may never come back.
//
// A pool looks at Done once and asks a second time only to wait for it, so that
// a connection at hand costs no more than with the session's own context.
type Wait struct {
	context.Context
	at   Place
	unit Unit // that waits, or nil

	mu     sync.Mutex
	looked bool
	over   bool            // nobody waits any more
	both   context.Context // once somebody waits
	cancel context.CancelCauseFunc
	among  *waiter // of the units that may wait for each other, or nil
}

// Used reports whether it was given to Acquire before.
func (w *Wait) Used() bool { return w.Context != nil }

// Done implements [context.Context].
func (w *Wait) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looked || w.over && w.both == nil {
		w.looked = true
		return w.Context.Done()
	}
	if w.both == nil {
		w.both, w.cancel = context.WithCancelCause(w.Context)
		w.join()
		w.among = w.watch()
	}
	return w.both.Done()
}

// Err implements [context.Context].
func (w *Wait) Err() error { return w.now().Err() }

// Value implements [context.Context].
func (w *Wait) Value(key any) any { return w.now().Value(key) }

func (w *Wait) now() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.both == nil {
		return w.Context
	}
	return w.both
}

// stop ends the wait, and returns what has ended it before: errLeft, ErrDeadlock,
// or an error of the caller's context.
func (w *Wait) stop() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.both == nil {
		return nil
	}
	w.part()
	if w.among != nil {
		w.among.part()
	}
	why := context.Cause(w.both)
	w.cancel(nil)
	return why
}

// join makes the wait end when its host is left.
func (w *Wait) join() {
	p := w.at.pools
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.departures.Load() != w.at.since {
		w.cancel(errLeft)
		return
	}
	if w.at.Host.waiting == nil {
		w.at.Host.waiting = map[*Wait]struct{}{}
	}
	w.at.Host.waiting[w] = struct{}{}
}

func (w *Wait) part() {
	p := w.at.pools
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(w.at.Host.waiting, w)
}

// ErrDeadlock ends the wait of a unit that could only end with it.
var ErrDeadlock = errors.New("all connections of the pool are held by units that wait for another one")
