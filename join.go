package dbscope

import (
	"context"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/unit"
)

// Join calls fn in the context's scope. If the context has none, or its scope is
// over, Join calls fn in a new one, as [Run] does. So a use case is one unit wherever
// it is called from: a request, a job, a command line, a test, or a larger use case.
//
// In a scope that is there already Join commits nothing: whoever began the scope
// does. If fn returns an error, panics or leaves by [runtime.Goexit], nothing of
// the unit can be committed any more, even if the caller ignores the error:
// statements and commits return [ErrRolledBack] with fn's error as the cause, on
// databases that were not used yet, too. After [Scope.Rollback] the scope can be used
// again. In a [DB.Atomic] block this holds for the block, until it is rolled back, and
// for the other databases that fn used. For a part of a unit that may fail alone
// use [DB.Atomic].
//
// While fn runs, [DB.Commit], [DB.Rollback], [Scope.Commit] and their like return
// [ErrOpenTransaction], whoever calls them, and Atomic is a savepoint.
//
// [Isolation], [ReadOnly] and [Deferrable] are refused with [ErrOpenTransaction] if
// the scope does not have them. [Retry], [CommitTimeout] and [OnHookError] have an
// effect only if Join begins the scope.
//
// Join returns fn's error as it is. It blocks while fn does, and is safe for
// concurrent use. Other errors: those of Run; [ErrRolledBack] in a scope that a
// middleware has ended while its function runs.
func Join(ctx context.Context, fn func(context.Context) error, opts ...Option) error {
	s := scopeOf(ctx)
	if s == nil || s.ended.Load() {
		if s != nil && s.abortedBy.Load() != nil {
			return s.aborted()
		}
		if unit.Refused(ctx) != nil {
			return fmt.Errorf("dbscope: %w", noScope(ctx))
		}
		return Run(ctx, fn, opts...)
	}
	if len(opts) > 0 {
		if err := s.mayJoin(opts); err != nil {
			return err
		}
	}
	if s.blocks.Load() {
		if b := s.openBlock(session.BlockOf(ctx)); b != nil {
			return s.joinBlock(ctx, b, fn)
		}
	}
	s.joins.Add(1)
	err := errLeft
	defer func() {
		if err != nil {
			s.doom(err)
		}
		s.joins.Add(-1)
	}()
	err = fn(ctx)
	return err
}

var errLeft = errors.New("a function of Join panicked, or ended its goroutine")

// mayJoin refuses options that the scope does not have.
func (s *Scope) mayJoin(opts []Option) error {
	var o scopeOptions
	for _, opt := range opts {
		opt.applyToScope(&o)
	}
	if lacks := link.Lacks(s.opts.tx, o.tx); lacks != "" {
		return fmt.Errorf("dbscope: %w: Join cannot make its unit %s: pass that to what begins the unit", ErrOpenTransaction, lacks)
	}
	return nil
}

// joinBlock is Join in a block.
func (s *Scope) joinBlock(ctx context.Context, b *session.Block, fn func(context.Context) error) error {
	before := map[*slot]int64{}
	for sl := range s.slots() {
		before[sl] = sl.uses.Load()
	}
	s.joins.Add(1)
	b.Joins.Add(1)
	err := errLeft
	defer func() {
		if err != nil {
			s.doomBlock(b, before, err)
		}
		b.Joins.Add(-1)
		s.joins.Add(-1)
	}()
	err = fn(ctx)
	return err
}

// doomBlock lets only a rollback of the block through, and of what was done
// meanwhile on other databases.
func (s *Scope) doomBlock(b *session.Block, before map[*slot]int64, why error) {
	if b.IsOver() {
		s.doom(why) // it has become a part of what is around it
		return
	}
	b.Doom(why)
	for sl := range s.slots() {
		if ss := sl.current.Load(); ss != nil && ss != b.Session && sl.uses.Load() != before[sl] {
			ss.DoomHere(why)
		}
	}
}
