package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/driver"
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

// overError is the answer of a transaction that was ended before.
type overError struct {
	db string
	o  driver.Outcome
}

func (e *overError) Error() string {
	return fmt.Sprintf("dbscope: %s: this transaction is over (%s), ask the DB for its successor: %v", e.db, e.o, sql.ErrTxDone)
}

func (*overError) Unwrap() error { return sql.ErrTxDone }

// isOpen reports whether there is something to end: a transaction that is open,
// or being opened, or a block, or what only a rollback is allowed for.
func (s *session) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder != state.Over && (s.begun || s.holder != state.Nobody || len(s.blocks) > 0 || s.condition.Why != nil)
}

// runs reports whether a statement runs, or waits for a connection.
func (s *session) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder == state.Statement || s.holder == state.Ender || s.holder == state.Deserter
}

// mayEnd refuses an early end that must not be, of the whole or of a block that is the
// transaction: refused is asked for the reasons of the unit. Whether a statement runs
// is asked again after the hooks.
func (s *session) mayEnd(own *block, refused func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.overError(); err != nil || own != nil {
		return err
	}
	if len(s.blocks) > 0 && s.blocks[0] != s.expired() {
		return s.DB.Errorf("%w: end the nested transaction first", ErrOpenTransaction)
	}
	if err := refused(); err != nil {
		return err
	}
	if s.holder == state.Statement {
		return s.DB.Errorf("%w", ErrSessionBusy)
	}
	return nil
}

// withTop calls a function with the innermost block, which stays that meanwhile. It
// must not call the session.
func (s *session) withTop(f func(top *block) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.overError(); err != nil {
		return err
	}
	return f(s.top())
}

// beforeCommit returns the BeforeCommit hook of the DB, once. The caller holds the
// unit's mu.
func (s *session) beforeCommit() func(context.Context) error {
	if s.DB.BeforeCommit == nil || s.hooked {
		return nil
	}
	s.hooked = true
	return s.DB.BeforeCommit
}

// refuse lets what a hook did not approve only be undone, also where somebody
// recovers from its panic.
func (s *session) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		s.condition.Doom(errors.New("a BeforeCommit hook did not return"), len(s.blocks))
	}
}
