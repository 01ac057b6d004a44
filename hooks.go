package dbscope

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/dbscope/dbscope/driver"
)

// BeforeCommit calls hook before the context's scope is committed, in the
// scope: its statements are part of the unit, and its error prevents the
// commit. The hooks of a scope run in the order they were registered in, also
// those that hooks register.
//
// A hook belongs to the innermost [DB.Atomic] block of ctx: when the block is
// undone the hook does not run, except for one of [AfterRollback].
//
// Registering does not block and is safe for concurrent use. Errors:
// [ErrNoScope], [ErrScopeEnded].
func BeforeCommit(ctx context.Context, hook func(context.Context) error) error {
	return onScope(ctx, beforeCommit, hook)
}

// AfterCommit calls hook when all that was open at the scope's end was
// committed.
// It runs in a scope of its own, after the unit's connections have gone back
// to their pools, and ctx's cancellation does not stop it. All after-hooks
// run, in the order they were registered in; their errors and panics go to
// [OnHookError] and do not make the unit a failed one. Otherwise it is as
// [BeforeCommit].
func AfterCommit(ctx context.Context, hook func(context.Context) error) error {
	return onScope(ctx, afterCommit, hook)
}

// AfterRollback calls hook when all that was open at the scope's end was
// undone, or once the scope is over when the block it belongs to was undone.
// Otherwise it is as [AfterCommit]. Where some databases were committed and
// others not, or an outcome is unknown, neither runs. What was committed early
// does not count.
func AfterRollback(ctx context.Context, hook func(context.Context) error) error {
	return onScope(ctx, afterRollback, hook)
}

// BeforeCommit is [BeforeCommit] for the transaction that is open in the
// session, or the next one: also when it is committed early. Where the scope
// ends without one, the hook does not run, and so it never connects to a
// database that the unit did not use.
func (db *DB[H]) BeforeCommit(ctx context.Context, hook func(context.Context) error) error {
	return db.core.onSession(ctx, beforeCommit, hook)
}

// AfterCommit is [AfterCommit] for the transaction that is open in the session,
// or the next one: it runs when that was committed, also early, while the scope
// goes on.
func (db *DB[H]) AfterCommit(ctx context.Context, hook func(context.Context) error) error {
	return db.core.onSession(ctx, afterCommit, hook)
}

// AfterRollback is [AfterRollback] for the transaction that is open in the
// session, or the next one.
func (db *DB[H]) AfterRollback(ctx context.Context, hook func(context.Context) error) error {
	return db.core.onSession(ctx, afterRollback, hook)
}

// hook is a function that waits for the end of a transaction.
type hook struct {
	when    moment
	fn      func(context.Context) error
	session *session // whose end it waits for, nil for the scope's
	block   *block   // the innermost one it belongs to, nil where there is none
}

type moment uint8

const (
	beforeCommit moment = iota
	afterCommit
	afterRollback
	afterEnd // of the whole, however it ends: the part was undone
)

// due reports whether an after-hook runs when what it waits for ended so.
func (h *hook) due(o driver.Outcome) bool {
	switch h.when {
	case afterCommit:
		return o == driver.Committed
	case afterRollback:
		return o == driver.RolledBack
	default:
		return h.when == afterEnd
	}
}

func onScope(ctx context.Context, when moment, fn func(context.Context) error) error {
	s := scopeOf(ctx)
	if s == nil {
		return fmt.Errorf("dbscope: %w", ErrNoScope)
	}
	return s.addHook(hook{when: when, fn: fn, block: openBlock(contextBlock(ctx))})
}

// onSession gives the hook to the session's innermost block, whoever began it.
func (d *database) onSession(ctx context.Context, when moment, fn func(context.Context) error) error {
	ss, err := d.find(ctx)
	if err != nil {
		return err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := ss.overError(); err != nil {
		return err
	}
	return ss.slot.scope.addHook(hook{when: when, fn: fn, session: ss, block: ss.top()})
}

func (s *Scope) addHook(h hook) error {
	if h.fn == nil {
		return errors.New("dbscope: the hook is nil: pass a function")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() || s.sealed && h.when == beforeCommit {
		return fmt.Errorf("dbscope: %w", s.endedError())
	}
	s.hooks = append(s.hooks, h)
	s.hooked.Store(true)
	return nil
}

// awaits reports whether a hook waits for the end of the session.
func (s *Scope) awaits(ss *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.hooks, func(h hook) bool { return h.session == ss })
}

// blockEnded gives the hooks of a block to the one around it. Of those of an
// undone block only AfterRollback's are left.
func (s *Scope) blockEnded(b *block, committed bool) {
	if !s.hooked.Load() {
		return
	}
	outer := openBlock(b.outer) // which locks a session: never under mu
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.hooks[:0]
	for _, h := range s.hooks {
		if h.block == b {
			if !committed && h.when < afterRollback {
				continue
			}
			if !committed {
				h.when = afterEnd
			}
			h.block = b.below
			if h.session == nil {
				h.block = outer
			}
		}
		kept = append(kept, h)
	}
	clear(s.hooks[len(kept):])
	s.hooks = kept
}

// before runs the BeforeCommit hooks of the scope, or of one session of it,
// until there are none; where last is set none can come after that. It stops at
// the first error, and does nothing where the commit will fail anyway.
func (s *Scope) before(ctx context.Context, only *session, last bool) error {
	if s.unhooked(last) || s.rollbackOnly.Load() || s.ended.Load() {
		return nil
	}
	for ss := range s.sessions() {
		if only != nil && ss != only {
			continue
		}
		ss.closeRows(ctx)
		if !ss.isOver() && ss.brokenError() != nil {
			return nil
		}
	}
	returned := true
	defer func() {
		if !returned {
			s.refuse(only)
		}
	}()
	for {
		fn := s.takeBefore(only, last)
		if fn == nil {
			return nil
		}
		returned = false
		err := fn(s.inside(ctx))
		if returned = true; err != nil {
			return fmt.Errorf("dbscope: %w: a BeforeCommit hook failed: %w", ErrRolledBack, err)
		}
	}
}

// refuse lets what a hook did not approve only be undone, also where somebody
// recovers from its panic.
func (s *Scope) refuse(only *session) {
	for ss := range s.sessions() {
		if (only == nil || ss == only) && ss.isBegun() {
			ss.doom(errors.New("a BeforeCommit hook did not return"))
		}
	}
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

func (s *Scope) takeBefore(only *session, last bool) func(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range s.hooks {
		if h.when == beforeCommit && (only == nil || h.session == only) && (h.session == nil || h.session.live.Load()) {
			s.hooks = slices.Delete(s.hooks, i, i+1)
			return h.fn
		}
	}
	s.sealed = last
	return nil
}

// passOn gives the BeforeCommit hooks of a session that has ended without a
// transaction to the next one of its database: there was nothing that they could
// have been part of. Those of a block that was undone are not passed on.
func (s *Scope) passOn(ended *session) {
	if !s.hooked.Load() || ended.live.Load() {
		return
	}
	kept := ended.ended() == driver.Committed
	waits := func(h hook) bool {
		return h.session == ended && h.when == beforeCommit && (h.block == nil || kept)
	}
	s.mu.Lock()
	any := slices.ContainsFunc(s.hooks, waits)
	s.mu.Unlock()
	if !any {
		return
	}
	next, err := s.session(ended.db)
	if err != nil {
		return // the scope has ended, and there is no next one
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.hooks {
		if h := &s.hooks[i]; waits(*h) {
			h.session, h.block = next, nil
		}
	}
}

// inside is a context in the scope whatever the caller passed to end it, such
// as database/sql, which has none, and one that the caller's end does not end.
func (s *Scope) inside(ctx context.Context) context.Context {
	if scopeOf(ctx) != s {
		ctx = s.ctx
	}
	return context.WithoutCancel(ctx)
}

// takeAfter takes the hooks of what has ended, and returns those that are due.
func (s *Scope) takeAfter(outcome func(*hook) (o driver.Outcome, ended bool)) []hook {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []hook
	kept := s.hooks[:0]
	for _, h := range s.hooks {
		o, ended := outcome(&h)
		switch {
		case !ended:
			kept = append(kept, h)
		case h.due(o):
			due = append(due, h)
		}
	}
	clear(s.hooks[len(kept):])
	s.hooks = kept
	return due
}

// runAllAfter runs the hooks of scopes that have ended, or begin anew; all of
// them, also where one ends its goroutine.
func runAllAfter(ctx context.Context, scopes []*Scope) {
	if len(scopes) > 0 {
		defer runAllAfter(ctx, scopes[1:])
		scopes[0].afterEnd(ctx)
	}
}

func (s *Scope) afterEnd(ctx context.Context) {
	if !s.hooked.Load() {
		return
	}
	s.runAfter(s.inside(ctx), s.takeAfter(func(h *hook) (driver.Outcome, bool) {
		if h.session != nil {
			waits := !s.ended.Load() && h.session.slot.current.Load() == h.session
			return h.session.ended(), !waits
		}
		return s.outcome, true
	}))
}

// runAfter runs after-hooks, whatever some of them do.
func (s *Scope) runAfter(ctx context.Context, due []hook) {
	if len(due) == 0 {
		return
	}
	var errs []error
	defer func() { s.reportHooks(ctx, errs) }()
	s.runEach(context.WithoutCancel(ctx), due, &errs)
}

// runEach runs the rest also where one ends its goroutine.
func (s *Scope) runEach(ctx context.Context, due []hook, errs *[]error) {
	if len(due) == 0 {
		return
	}
	defer s.runEach(ctx, due[1:], errs)
	err := errors.New("an after-hook ended its goroutine")
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("an after-hook panicked: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			*errs = append(*errs, err)
		}
	}()
	err = Run(ctx, due[0].fn, OnHookError(s.opts.onHookError))
}

func (s *Scope) reportHooks(ctx context.Context, errs []error) {
	err := errors.Join(errs...)
	switch {
	case err == nil:
	case s.opts.onHookError != nil:
		s.opts.onHookError(ctx, err)
	default:
		slog.ErrorContext(ctx, "dbscope: after the end of a unit of work its hooks failed", "error", err)
	}
}
