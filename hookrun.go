package dbscope

import (
	"context"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/hooks"
	"github.com/dbscope/dbscope/observe"
)

// runUnit is [Run], which the hooks of a unit that Run has ended need in turn.
var runUnit func(ctx context.Context, fn func(context.Context) error, opts ...Option) error

// addHook puts the hook into the list that it chooses under mu.
func (s *Scope) addHook(when hooks.Moment, fn func(context.Context) error, list func() *hooks.Waiting) error {
	if fn == nil {
		return errors.New("dbscope: the hook is nil: pass a function")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() || s.sealed && when == hooks.BeforeCommit {
		return fmt.Errorf("dbscope: %w", s.endedError())
	}
	s.hooks.Add(list(), when, fn)
	s.hooked.Store(true)
	return nil
}

// openBlock returns the block, or the nearest around its context, that is open and
// one of the scope's.
func (s *Scope) openBlock(b *session.Block) *session.Block {
	for b != nil && (b.IsOver() || !b.Session.Place.Owns(s.ctx)) {
		b = b.Outer
	}
	return b
}

// blockEnded gives the hooks of a block to what is around it.
func (s *Scope) blockEnded(sl *slot, b *session.Block, kept bool) {
	if !s.hooked.Load() {
		return
	}
	outer := s.openBlock(b.Outer) // which locks a session: never under mu
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.BlockEnded(b, b.Below, outer, kept, &sl.hooks)
}

// sessionEnded notes which hooks of a session are due.
func (s *Scope) sessionEnded(sl *slot, ss *session.Session, o driver.Outcome) {
	if !s.hooked.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.SessionEnded(o, &sl.hooks, &sl.due, func(b *session.Block) bool { return b.Session == ss }, ss.Live.Load())
}

// awaited reports whether a hook waits for the end of the place's session.
func (s *Scope) awaited(sl *slot) bool {
	if !s.hooked.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !sl.hooks.Empty()
}

// beforeSession runs the BeforeCommit hooks of one session, and of the block that
// ends with it, until there are none. It stops at the first error, and does nothing
// where the commit will fail anyway.
func (s *Scope) beforeSession(ctx context.Context, sl *slot, ss *session.Session, own *session.Block) error {
	if !s.hooked.Load() || s.rollbackOnly.Load() || s.ended.Load() || closedAndBroken(ctx, ss) {
		return nil
	}
	return s.runBefore(ctx, ss.RefuseCommit, func() *hooks.Hook {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !ss.Live.Load() || sl.current.Load() != ss {
			return nil
		}
		if h := s.hooks.Before(&sl.hooks, own).Take(); h != nil {
			return h
		}
		return eachCommit(ss)
	})
}

// beforeEnd is beforeSession for all that the scope has. Where last is set none of
// BeforeCommit can come any more after that.
func (s *Scope) beforeEnd(ctx context.Context, last bool) error {
	if s.unhooked(last) || s.rollbackOnly.Load() || s.doomedBy.Load() != nil || s.ended.Load() {
		return nil
	}
	for ss := range s.sessions() {
		if closedAndBroken(ctx, ss) {
			return nil
		}
	}
	refuse := func() {
		for ss := range s.sessions() {
			ss.RefuseCommit()
		}
	}
	return s.runBefore(ctx, refuse, func() *hooks.Hook {
		s.mu.Lock()
		defer s.mu.Unlock()
		from := &s.hooks.Own.Before
		for sl := range s.slots() {
			if ss := sl.current.Load(); ss != nil && ss.Live.Load() {
				from = hooks.Earlier(from, &sl.hooks.Before)
			}
		}
		h := from.Take()
		for sl := range s.slots() {
			if ss := sl.current.Load(); h == nil && ss != nil && ss.Live.Load() {
				h = eachCommit(ss)
			}
		}
		s.sealed = s.sealed || h == nil && last
		return h
	})
}

// eachCommit returns the hook of the session's DB, once for each transaction. The
// caller holds mu.
func eachCommit(ss *session.Session) *hooks.Hook {
	if fn := ss.BeforeCommit(); fn != nil {
		return &hooks.Hook{Fn: fn}
	}
	return nil
}

// closedAndBroken closes rows left open, and reports whether the session can only
// be undone.
func closedAndBroken(ctx context.Context, ss *session.Session) bool {
	ss.CloseRows(ctx)
	return !ss.IsOver() && ss.Broken() != nil
}

// runBefore runs the hooks that next returns, until it returns nil.
func (s *Scope) runBefore(ctx context.Context, refuse func(), next func() *hooks.Hook) error {
	err := hooks.RunBefore(next, func(h *hooks.Hook) error { return s.runHook(s.inside(ctx), h, h.Fn) }, refuse)
	if err != nil {
		return fmt.Errorf("dbscope: %w: a BeforeCommit hook failed: %w", ErrRolledBack, err)
	}
	return nil
}

// unhooked reports whether there has been no hook.
func (s *Scope) unhooked(last bool) bool {
	if !last || s.hooked.Load() {
		return !s.hooked.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = !s.hooked.Load()
	return s.sealed
}

// inside is a context in the scope whatever the caller passed to end it, such
// as database/sql, which has none, and one that the caller's end does not end.
func (s *Scope) inside(ctx context.Context) context.Context {
	if scopeOf(ctx) != s {
		ctx = s.ctx
	}
	return context.WithoutCancel(ctx)
}

// takeDue takes the hooks that are due after sessions of one place have ended.
func (s *Scope) takeDue(sl *slot) *hooks.Hook {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := sl.due.Head
	sl.due = hooks.List{}
	return due
}

// decideHooks notes which hooks of the scope itself are due after an end with the
// outcome. Whoever ends the scope next has no say in that.
func (s *Scope) decideHooks(o driver.Outcome) {
	if !s.hooked.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.Ended(o, &s.due)
}

// takeAllDue takes the hooks that are due after the scope has ended, or begins
// anew.
func (s *Scope) takeAllDue() *hooks.Hook {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.due
	s.due = hooks.List{}
	for sl := range s.slots() {
		due.Absorb(&sl.due)
	}
	return due.Head
}

// runAllAfter runs the hooks of scopes that have ended, or begin anew; all of
// them, also where one ends its goroutine.
func runAllAfter(ctx context.Context, scopes []*Scope) {
	if len(scopes) > 0 {
		defer runAllAfter(ctx, scopes[1:])
		if s := scopes[0]; s.hooked.Load() {
			s.runAfter(s.inside(ctx), s.takeAllDue())
		}
	}
}

// runAfter runs after-hooks, each in a scope of its own, whatever some of them do.
func (s *Scope) runAfter(ctx context.Context, due *hooks.Hook) {
	ctx = context.WithoutCancel(ctx)
	hooks.RunAll(due, func(h *hooks.Hook) error {
		return s.runHook(ctx, h, func(ctx context.Context) error {
			return runUnit(ctx, h.Fn, OnHookError(s.opts.onHookError), inherited(s.opts.observers))
		})
	}, func(err error) { s.opts.onHookError(ctx, err) })
}

// inherited are the observers of a unit, which those of its hooks have too.
type inherited []observe.Observer

func (i inherited) applyToScope(o *scopeOptions) { o.observers = i }

// runHook has observers told of a hook.
func (s *Scope) runHook(ctx context.Context, h *hooks.Hook, run func(context.Context) error) error {
	ctx, op := s.watch.Load().Start(ctx, observe.Event{Kind: observe.Hook, Text: h.When.String()})
	err := errs.ErrNotReturned
	defer func() { op.End(observe.None, err) }()
	err = run(ctx)
	return err
}
