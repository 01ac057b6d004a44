package dbscope

import (
	"context"
	"slices"
	"time"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/internal/unit"
)

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
	giveUp(ctx, live)
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
