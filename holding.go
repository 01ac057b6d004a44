package dbscope

import (
	"context"
	"slices"
	"time"

	"github.com/dbscope/dbscope/internal/state"
)

// Watch tells the watcher whenever the scope comes to hold a connection, and
// when it holds none any more. It is for writers of middlewares, before they
// give the scope's context away.
func (s *Scope) Watch(w Watcher) { s.watcher = w }

// Holding reports whether the scope, or one that was begun inside it, keeps a
// connection from its pool. It is for writers of middlewares, and safe for
// concurrent use.
func (s *Scope) Holding() bool { return s.connections.Load() > 0 }

// Idle reports whether the scope, or one that was begun inside it, keeps a
// connection from its pool while no statement runs in any of them. It is for
// writers of middlewares, and safe for concurrent use.
func (s *Scope) Idle() bool { return s.Holding() && !s.runs() }

func (s *Scope) runs() bool {
	for ss := range s.sessions() {
		if ss.runs() {
			return true
		}
	}
	return slices.ContainsFunc(s.begunInside(), (*Scope).runs)
}

// runs reports whether a statement runs, or waits for a connection.
func (s *session) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder == state.Statement || s.holder == state.Ender || s.holder == state.Deserter
}

// Abort ends the scope, and those begun inside it, while their functions still
// run: what is open is rolled back, and all connections are given back. Whatever
// is asked of the scope afterwards answers [ErrRolledBack] and why, its commit
// too, except that it may be rolled back and released once more. It is for
// writers of middlewares, safe for concurrent use, and blocks as [Scope.Release]
// does. A scope that is over stays as it is.
func (s *Scope) Abort(ctx context.Context, why error) error {
	ctx = s.inside(ctx)
	live := s.abort(why, nil)
	for _, each := range live {
		each.ending.Lock()
	}
	err := settleAll(ctx, live, rollBack)
	giveUp(ctx, live)
	return err
}

// closingAborted bounds the closing of rows in a scope that is aborted. Others wait
// for its connection: to read through a large result takes longer than to replace
// the connection.
const closingAborted = 100 * time.Millisecond

// closing implements [place].
func (sl *slot) closing(most time.Duration) time.Duration {
	if sl.scope.why.Load() != nil {
		return min(most, closingAborted)
	}
	return most
}

// abort ends the scope and those inside it, and appends those that were not over.
func (s *Scope) abort(why error, live []*Scope) []*Scope {
	s.mu.Lock()
	if !s.ended.Load() {
		s.why.Store(&why) // first, since others look whether it has ended
		s.ended.Store(true)
		live = append(live, s)
	}
	s.mu.Unlock()
	for _, inner := range s.begunInside() { // no more of them come
		live = inner.abort(why, live)
	}
	s.leaveParent()
	return live
}
