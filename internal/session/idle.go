package session

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/internal/errs"

	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/state"
)

// IdleWithTransaction reports whether there is a transaction, and neither a
// statement nor rows nor a nested transaction is open in it.
func (s *Session) IdleWithTransaction() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nothingOpen()
}

// nothingOpen is IdleWithTransaction. The caller holds mu.
func (s *Session) nothingOpen() bool {
	transaction := s.begun || s.condition.Why != nil
	nested := len(s.blocks) > 0 && s.blocks[0] != s.expired()
	return transaction && s.holder == state.Nobody && !nested && s.Place.UnitEnded() == nil
}

// EndIdleAs ends the transaction where nothing is open in it. Else it changes
// nothing, waits for nobody, and reports false.
func (s *Session) EndIdleAs(ctx context.Context, w Wish) (r link.Result, ended bool) {
	if !s.Ending.TryLock() {
		return r, false
	}
	defer s.Ending.Unlock()
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
	if w == Commit && !s.Cleared(ctx, false) {
		w = Refuse
	}
	return s.EndAs(ctx, w), true
}

// Busy reports whether a statement runs or its rows are open.
func (s *Session) Busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder != state.Nobody && s.holder != state.Over
}

// CloseRows closes rows left open, so that statements can run.
func (s *Session) CloseRows(ctx context.Context) {
	s.Ending.Lock()
	defer s.Ending.Unlock()
	if s.Seize(ctx) && !s.IsOver() {
		_ = s.leave(nil)
	}
}

// IsOpen reports whether there is something to end: a transaction that is open,
// or being opened, or a block, or what only a rollback is allowed for.
func (s *Session) IsOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder != state.Over && (s.begun || s.holder != state.Nobody || len(s.blocks) > 0 || s.condition.Why != nil)
}

// Runs reports whether a statement runs, or waits for a connection.
func (s *Session) Runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder == state.Statement || s.holder == state.Ender || s.holder == state.Deserter
}

// MayEnd refuses an early end that must not be, of the whole or of a block that is the
// transaction: refused is asked for the reasons of the unit. Whether a statement runs
// is asked again after the hooks.
func (s *Session) MayEnd(own *Block, refused func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.OverError(); err != nil || own != nil {
		return err
	}
	if len(s.blocks) > 0 && s.blocks[0] != s.expired() {
		return s.DB.Errorf("%w: end the nested transaction first", errs.ErrOpenTransaction)
	}
	if err := refused(); err != nil {
		return err
	}
	if s.holder == state.Statement {
		return s.DB.Errorf("%w", errs.ErrSessionBusy)
	}
	return nil
}

// WithTop calls a function with the innermost block, which stays that meanwhile. It
// must not call the session.
func (s *Session) WithTop(f func(top *Block) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.OverError(); err != nil {
		return err
	}
	return f(s.top())
}

// BeforeCommit returns the BeforeCommit hook of the DB, once. The caller holds the
// unit's mu.
func (s *Session) BeforeCommit() func(context.Context) error {
	if s.DB.BeforeCommit == nil || s.hooked {
		return nil
	}
	s.hooked = true
	return s.DB.BeforeCommit
}

// RefuseCommit lets what a hook did not approve only be undone, also where somebody
// recovers from its panic.
func (s *Session) RefuseCommit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		s.condition.Doom(errors.New("a BeforeCommit hook did not return"), len(s.blocks))
	}
}
