package dbscope

import (
	"context"

	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/state"
)

// idleWithTransaction reports whether there is a transaction, and neither a
// statement nor rows nor a nested transaction is open in it.
func (s *session) idleWithTransaction() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nothingOpen()
}

// nothingOpen is idleWithTransaction. The caller holds mu.
func (s *session) nothingOpen() bool {
	transaction := s.begun || s.condition.Why != nil
	nested := len(s.blocks) > 0 && s.blocks[0] != s.expired()
	return transaction && s.holder == state.Nobody && !nested && s.place.unitEnded() == nil
}

// settleIdle ends the transaction where nothing is open in it. Else it changes
// nothing, waits for nobody, and reports false.
func (s *session) settleIdle(ctx context.Context, w wish) (r link.Result, ended bool) {
	if !s.ending.TryLock() {
		return r, false
	}
	defer s.ending.Unlock()
	s.mu.Lock()
	idle := s.nothingOpen()
	if idle {
		s.holder.Move(state.Seize)
	}
	s.mu.Unlock()
	if !idle {
		return r, false
	}
	s.undoExpired(ctx)
	if w == commit && !s.cleared(ctx) {
		w = refuse
	}
	return s.settle(ctx, w), true
}

// busy reports whether a statement runs or its rows are open.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder != state.Nobody && s.holder != state.Over
}

// closeRows closes rows left open, so that statements can run.
func (s *session) closeRows(ctx context.Context) {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.seize(ctx) && !s.isOver() {
		_ = s.leave(nil)
	}
}
