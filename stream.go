package dbscope

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope/internal/errs"
)

// Stream tells the scope that its answer has begun to leave while the unit goes
// on, perhaps for long. It is for writers of middlewares, who call it again
// with each further part of the answer. From then on the scope keeps no
// connection that it does not need: none without a transaction, so that
// [DB.Commit] gives the connection back, and in a read-only scope none on which
// nothing is open, be it a statement, rows or a nested transaction. Such a
// read-only transaction is ended by Stream, committed or rolled back as commit
// says; what is open is left alone. The hooks of the scope itself wait for its
// end.
//
// It blocks as [Scope.Commit] does, and is safe for concurrent use. An error
// says that a transaction could not be committed.
func (s *Scope) Stream(ctx context.Context, commit bool) error {
	if !s.streams.Load() {
		s.streams.Store(true)
		s.dropSpares()
		for ss := range s.sessions() {
			ss.giveBack()
		}
	}
	if !s.ReadOnly() || s.group != nil {
		return nil
	}
	var failures error
	for ss := range s.sessions() {
		failures = errs.Joined(failures, ss.endIdle(ctx, commit && !s.rollbackOnly.Load()))
	}
	return failures
}

// endIdle ends the transaction early if nothing is open in it, and else leaves
// it as it is.
func (s *session) endIdle(ctx context.Context, commit bool) error {
	if !s.isIdle() {
		return nil
	}
	var prevented error
	if commit { // hooks run statements, so they come before the session is seized
		prevented = s.slot.scope.before(ctx, s, false)
	}
	o, ended := s.settleIdle(ctx, commit, prevented == nil)
	if ended {
		s.afterEarly(ctx, nil)
	}
	switch {
	case prevented != nil:
		return errs.Joined(prevented, o.Err)
	case commit && o.failed():
		return &CommitError{Outcomes: []Outcome{o}}
	case o.Err != nil:
		return fmt.Errorf("dbscope: ending a read-only transaction: %w", o.Err)
	}
	return nil
}

func (s *session) settleIdle(ctx context.Context, wanted, allowed bool) (o Outcome, ended bool) {
	if !s.seizeIdle(ctx) {
		return o, false
	}
	defer s.ending.Unlock()
	return s.settle(ctx, wanted, wanted && allowed && s.cleared(ctx)), true
}

// seizeIdle is seize for a session in which nothing is open. Unlike seize it
// changes nothing, and waits for nobody, where something is; it then returns
// false and holds nothing.
func (s *session) seizeIdle(ctx context.Context) bool {
	if !s.ending.TryLock() {
		return false
	}
	s.mu.Lock()
	idle := s.nothingOpen()
	if idle {
		s.phase, s.seized = running, true
	}
	s.mu.Unlock()
	if !idle {
		s.ending.Unlock()
		return false
	}
	s.undoExpired(ctx)
	return true
}

func (s *session) isIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nothingOpen()
}

// nothingOpen reports whether there is a transaction, and neither a statement
// nor rows nor a nested transaction is open in it. The caller holds mu.
func (s *session) nothingOpen() bool {
	transaction := s.begun || s.broken != nil
	nested := len(s.blocks) > 0 && s.blocks[0] != s.expired()
	return transaction && s.phase == idle && !nested && !s.slot.scope.ended.Load()
}
