package dbscope

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Watcher is told by [Scope.Watch].
type Watcher interface {
	// HoldingChanged says that [Scope.Holding] may answer otherwise now. It is
	// called with nothing locked, by whatever goroutine takes or gives back a
	// connection, perhaps by several at once, and must not block.
	HoldingChanged()
}

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
	return s.phase == running
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
	errs := settleAll(ctx, live, false)
	giveUp(ctx, live)
	return errs
}

// closingAborted bounds the closing of rows in a scope that is aborted. Others wait
// for its connection: to read through a large result takes longer than to replace
// the connection.
const closingAborted = 100 * time.Millisecond

func (s *session) closingTimeout() time.Duration {
	if s.slot != nil && s.slot.scope.why.Load() != nil {
		return min(s.opts.endTimeout, closingAborted)
	}
	return s.opts.endTimeout
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

// aborted returns what a commit of the scope answers after Abort, or nil.
func (s *Scope) aborted() error {
	if s.why.Load() == nil {
		return nil
	}
	return fmt.Errorf("dbscope: %w", s.endedError())
}

// endedError is the answer to any use of the scope after its end.
func (s *Scope) endedError() error {
	if why := s.why.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrRolledBack, *why)
	}
	return ErrScopeEnded
}

// took counts a connection that was taken, or with -1 given back, for the scope
// and those around it.
func (s *Scope) took(n int32) {
	for ; s != nil; s = s.parent {
		if now := s.connections.Add(n); s.watcher != nil && (now == 0 || now == n) {
			s.watcher.HoldingChanged()
		}
	}
}

// joinParent makes the scope one of those inside the innermost scope around it
// that is not over.
func (s *Scope) joinParent(around *Scope) {
	for p := around; p != nil; p = p.parent {
		if p.takeIn(s) {
			s.parent = p
			return
		}
	}
}

func (s *Scope) takeIn(inner *Scope) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return false
	}
	s.nested = append(s.nested, inner)
	return true
}

// leaveParent is for the scope's end.
func (s *Scope) leaveParent() {
	if p := s.parent; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(p.nested, s); i >= 0 {
			p.nested = slices.Delete(p.nested, i, i+1)
		}
	}
}

func (s *Scope) begunInside() []*Scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.nested)
}
