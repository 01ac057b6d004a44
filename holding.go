package dbscope

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/observe"
)

// Holding returns the names of the DBs of which the context's unit holds a connection now,
// in the order of first use; none where there is no unit. Units around it and inside it
// do not count. What takes long, a call of another service or a wait, is better done
// while there are none: before the first statement, after the end, or after [DB.Release].
// It does not block and is safe for concurrent use.
func Holding(ctx context.Context) []string {
	return held(ctx, func(sl *slot) bool { return sl.holding.Load() > 0 || sl.isOpen() })
}

func held(ctx context.Context, such func(*slot) bool) (names []string) {
	s := scopeOf(ctx)
	if s == nil {
		return nil
	}
	for sl := range s.slots() {
		if such(sl) {
			names = append(names, sl.db.Name)
		}
	}
	return names
}

// isOpen reports whether a transaction is open in the slot, or is being opened.
func (sl *slot) isOpen() bool {
	ss := sl.current.Load()
	return ss != nil && ss.Live.Load()
}

// Calls implements [unit.Caller].
func (c *control) Calls(ctx context.Context, whom string) (_ context.Context, open []string, done func(error)) {
	open = held(ctx, (*slot).isOpen)
	w := c.watch.Load()
	if w == nil || len(open) == 0 {
		return ctx, open, nil
	}
	ctx, op := w.Start(ctx, observe.Event{Kind: observe.Call, DB: strings.Join(open, ", "), Text: whom})
	return ctx, open, func(err error) { op.End(observe.None, err) }
}

func (c *control) Watch(w unit.Watcher) { c.unit.Watch(w) }

func (c *control) Holding() bool { return c.unit.Holding() }

func (c *control) Idle() bool { return c.Holding() && !(*Scope)(c).runs() }

func (s *Scope) runs() bool {
	for ss := range s.sessions() {
		if ss.Runs() {
			return true
		}
	}
	return slices.ContainsFunc(s.unit.Inside(), func(u *unit.Unit) bool { return u.Scope.(*Scope).runs() })
}

func (c *control) Abort(ctx context.Context, why error) error {
	s := (*Scope)(c)
	ctx = s.inside(ctx)
	live := s.abort(why, nil)
	for _, each := range live {
		each.ending.Lock()
	}
	err := settleAll(ctx, live, session.RollBack)
	giveUp(ctx, live, why)
	return err
}

// closingAborted bounds the closing of rows in a scope that is aborted. Others wait
// for its connection: to read through a large result takes longer than to replace
// the connection.
const closingAborted = 100 * time.Millisecond

// Closing implements [session.Place].
func (sl *slot) Closing(most time.Duration) time.Duration {
	if sl.scope.abortedBy.Load() != nil {
		return min(most, closingAborted)
	}
	return most
}

// abort ends the scope and those inside it, and appends those that were not over.
func (s *Scope) abort(why error, live []*Scope) []*Scope {
	s.mu.Lock()
	if !s.ended.Load() {
		s.abortedBy.Store(&why) // first, since others look whether it has ended
		s.ended.Store(true)
		live = append(live, s)
	}
	s.mu.Unlock()
	s.unit.Close()
	for _, inner := range s.unit.Inside() {
		live = inner.Scope.(*Scope).abort(why, live)
	}
	s.unit.Leave()
	return live
}
