package dbscope

import (
	"context"

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
		for sl := range s.slots() {
			sl.dropSpare()
		}
	}
	if !s.ReadOnly() || s.together() {
		return nil
	}
	var failures error
	for sl := range s.slots() {
		if ss := sl.current.Load(); ss != nil {
			failures = errs.Joined(failures, sl.endIdle(ctx, ss, wishTo(commit && !s.rollbackOnly.Load())))
		}
	}
	return failures
}
