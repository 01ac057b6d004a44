package session

import (
	"context"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/watch"
	"github.com/dbscope/dbscope/observe"
)

// Observer implements [driver.Session].
func (s *Session) Observer() driver.StatementObserver {
	if s.Watch == nil || !s.Watch.Hears() {
		return nil // and not an interface of a nil
	}
	return s.Watch
}

// Observer implements [driver.Session].
func (b *Block) Observer() driver.StatementObserver { return b.Session.Observer() }

// endWatched is endTransaction, of which observers are told.
func (s *Session) endWatched(ctx context.Context, commits bool) (r link.Result, reuse bool) {
	kind := observe.Rollback
	if commits {
		kind = observe.Commit
	}
	ctx, op := s.Watch.Step(ctx, kind, "")
	r, reuse = s.endTransaction(ctx, commits)
	s.Watch.End(r.Err) // of a statement that COMMIT went with
	op.End(watch.OutcomeOf(r.Outcome), r.Err)
	return r, reuse
}

// TellOver tells observers that the transaction is over and has its result. Of one that
// is abandoned the statement tells that undoes it.
func (s *Session) TellOver() {
	s.mu.Lock()
	abandoned, r := s.abandoned, s.result
	s.mu.Unlock()
	if !abandoned {
		s.Watch.Over(r.Outcome, r.Err)
	}
}

// watched tells observers of a statement about the block's savepoint.
func (b *Block) watched(ctx context.Context, kind observe.Kind) (context.Context, watch.Op) {
	s := b.Session
	if s.Watch == nil {
		return ctx, watch.Op{}
	}
	live := 0
	s.mu.Lock()
	for _, open := range s.blocks {
		if open.kind == savepoint {
			live++
		}
	}
	s.mu.Unlock()
	if kind == observe.Savepoint {
		live++
	}
	return s.Watch.Savepoint(ctx, kind, b.mark, live)
}
