package dbscope

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/internal/hooks"
	"github.com/dbscope/dbscope/internal/link"
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
	return onScope(ctx, hooks.BeforeCommit, hook)
}

// AfterCommit calls hook when all that was open at the scope's end was
// committed.
// It runs in a scope of its own, after the unit's connections have gone back
// to their pools, and ctx's cancellation does not stop it. All after-hooks
// run, in the order they were registered in; their errors and panics go to
// [OnHookError] and do not make the unit a failed one. Otherwise it is as
// [BeforeCommit].
func AfterCommit(ctx context.Context, hook func(context.Context) error) error {
	return onScope(ctx, hooks.AfterCommit, hook)
}

// AfterRollback calls hook when all that was open at the scope's end was
// undone, or once the scope is over when the block it belongs to was undone.
// Otherwise it is as [AfterCommit]. Where some databases were committed and
// others not, or an outcome is unknown, neither runs. What was committed early
// does not count.
func AfterRollback(ctx context.Context, hook func(context.Context) error) error {
	return onScope(ctx, hooks.AfterRollback, hook)
}

// BeforeCommit is [BeforeCommit] for the transaction that is open in the
// session, or the next one: also when it is committed early. Where the scope
// ends without one, the hook does not run, and so it never connects to a
// database that the unit did not use.
func (db *DB[H]) BeforeCommit(ctx context.Context, hook func(context.Context) error) error {
	return db.core.onSession(ctx, hooks.BeforeCommit, hook)
}

// AfterCommit is [AfterCommit] for the transaction that is open in the session,
// or the next one: it runs when that was committed, also early, while the scope
// goes on.
func (db *DB[H]) AfterCommit(ctx context.Context, hook func(context.Context) error) error {
	return db.core.onSession(ctx, hooks.AfterCommit, hook)
}

// AfterRollback is [AfterRollback] for the transaction that is open in the
// session, or the next one.
func (db *DB[H]) AfterRollback(ctx context.Context, hook func(context.Context) error) error {
	return db.core.onSession(ctx, hooks.AfterRollback, hook)
}

// onScope gives the hook to the innermost open block of the context, or to the
// scope.
func onScope(ctx context.Context, when hooks.Moment, fn func(context.Context) error) error {
	s := scopeOf(ctx)
	if s == nil {
		return fmt.Errorf("dbscope: %w", noScope(ctx))
	}
	if s.adopted != nil && when == hooks.BeforeCommit {
		return errUnseenCommit(s.adopted)
	}
	b := s.openBlock(session.BlockOf(ctx))
	return s.addHook(when, fn, func() *hooks.Waiting {
		if b == nil {
			return &s.hooks.Own
		}
		return &s.hooks.Of(b).Scope
	})
}

// onSession gives the hook to the session's innermost block, whoever began it, or
// to the session.
func (d *database) onSession(ctx context.Context, when hooks.Moment, fn func(context.Context) error) error {
	ss, err := d.find(ctx)
	if err != nil {
		return err
	}
	if ss.Adopted != nil && when == hooks.BeforeCommit {
		return errUnseenCommit(ss.DB)
	}
	sl := slotOf(ss)
	return ss.WithTop(func(top *session.Block) error {
		return sl.scope.addHook(when, fn, func() *hooks.Waiting {
			if top != nil {
				return &sl.scope.hooks.Of(top).Session
			}
			return &sl.hooks
		})
	})
}

func errUnseenCommit(db *link.Database) error {
	return db.Errorf("%w: it was begun by other code, whose commit nobody here sees come, so that no BeforeCommit hook can run", ErrOpenTransaction)
}
