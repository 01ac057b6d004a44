package dbscope

import (
	"context"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/unit"
)

// Run calls fn in a new scope with sessions of its own, and ends the scope:
// committed when fn returns nil, rolled back when it returns an error, panics or
// leaves by [runtime.Goexit]. The stack of a panic stays whole.
//
// It returns fn's error as it is, and joins to it that of a rollback that failed. If fn
// returned nil, it returns the error of the commit: a [*CommitError], [ErrRolledBack]
// if a hook of [BeforeCommit] prevented it, or [ErrRollbackOnly] after [MarkRollback].
// It blocks while fn and the end do; the cancellation of ctx does not stop the end,
// see [CommitTimeout]. It is safe for concurrent use, and works in a context whose
// scope has ended.
//
// A Run inside a Run is a unit of its own, on connections of its own. It does not see
// what the outer one has not committed. It waits for the locks that the outer one
// holds, which on SQLite is any write, until the database or ctx gives up. If such
// units hold all connections of a pool, and each waits for one more, a statement of
// one of them returns [ErrPoolDeadlock].
//
// With [Retry] fn may be called again, in another new scope.
func Run(ctx context.Context, fn func(context.Context) error, opts ...Option) error {
	for attempt := 1; ; attempt++ {
		s, err := runOnce(ctx, fn, opts, attempt)
		if err == nil || !s.again(ctx, attempt, &err) {
			return err
		}
	}
}

func runOnce(ctx context.Context, fn func(context.Context) error, opts []Option, attempt int) (*Scope, error) {
	ctx, s := Begin(ctx, opts...)
	s.unit.ByRun = true
	s.attempt.Store(int32(attempt))
	err := errs.ErrNotReturned
	defer func() { // does something only when fn does not return
		s.watch.Load().Failed(err)
		_ = s.End(ctx)
	}()
	if err = fn(ctx); err != nil {
		s.watch.Load().Failed(err)
		return s, errs.Joined(err, finish(ctx, session.RollBack, isOver, s))
	}
	return s, finish(ctx, session.Commit, isOver, s)
}

func init() { runUnit, unit.RunFrame = Run, unit.NameOf(runOnce) }
