package middleware

import (
	"context"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/unit"
)

// Scope is a scope in the hands of its middleware, which [Policy.Begin] begins
// and [ScopeOf] finds.
type Scope struct {
	*dbscope.Scope
	Control
}

// Control is what a middleware may ask of a scope and do with it, beside what
// every owner of one may. Its methods are safe for concurrent use, except for
// Watch, and block only where they say so.
type Control interface {
	// ReadOnly reports whether the scope was begun with the option of that name.
	ReadOnly() bool
	// Busy reports whether a statement runs in the scope, or its rows are open:
	// then a commit now would take them away from their reader.
	Busy() bool
	// Holding reports whether the scope, or one that was begun inside it, keeps a
	// connection from its pool; Idle, whether it does while no statement runs in
	// any of them.
	Holding() bool
	Idle() bool
	// Watch calls HoldingChanged whenever Holding may answer otherwise: with
	// nothing locked, in whatever goroutine takes or gives back a connection,
	// perhaps in several at once. It must not block. Watch is called before the
	// scope's context is given away.
	Watch(watcher interface{ HoldingChanged() })
	// Stream tells the scope that its answer has begun to leave while the unit goes
	// on, perhaps for long, and is called again with each further part of the
	// answer. From then on the scope keeps no connection that it does not need: none
	// without a transaction, so that DB.Commit gives the connection back, and in a
	// read-only scope none on which nothing is open, be it a statement, rows or a
	// nested transaction. Such a read-only transaction is ended by Stream, committed
	// or rolled back as commit says; what is open is left alone. The hooks of the
	// scope itself wait for its end. It blocks as [dbscope.Scope.Commit] does. An
	// error says that a transaction could not be committed.
	Stream(ctx context.Context, commit bool) error
	// Finish ends the scope, and what is open in it with a commit, or a rollback. It is
	// for the end of the handler, where nothing of the unit follows, and so may send the
	// last of it without waiting for an answer that tells nothing, see
	// [dbscope.AwaitEnd]. Else it is as [dbscope.Scope.Commit] and [dbscope.Scope.End].
	Finish(ctx context.Context, commit bool) error
	// Abort ends the scope, and those begun inside it, while their functions still
	// run: what is open is rolled back, and all connections are given back. Whatever
	// is asked of the scope afterwards returns [dbscope.ErrRolledBack] and why, its
	// commit too, except that it may be rolled back and ended once more. It blocks as
	// [dbscope.Scope.End] does. A scope that is over stays as it is.
	Abort(ctx context.Context, why error) error
	// Attempt says which attempt of its unit the scope is, for observers: the first is 1.
	// It is called before the scope's context is given away.
	Attempt(number int)
	// Failed tells observers what the unit fails with, where its end does not: an answer
	// that tells of a failure, or a handler that did not return. The first error counts.
	// It is called before the end. It does not block.
	Failed(err error)
	// Transient reports whether a unit that was undone may succeed when its caller
	// asks for it again, whole: nothing of it is committed or may be, and err, with
	// which its commit failed, is one that [dbscope.Retry] would act on.
	Transient(err error) bool
	// Again reports, after the scope's end, whether a unit that was undone is to be
	// run again by the middleware, in a new scope, and blocks for the wait before it,
	// or until ctx is done. err is what the unit ended with, nil where that was no
	// error; attempt counts from 1. [dbscope.Run] does it for its units.
	Again(ctx context.Context, attempt int, err error) bool
}

// ScopeOf returns the context's scope, unless there is none or it has ended. It
// does not block.
func ScopeOf(ctx context.Context) (Scope, bool) {
	s, ok := dbscope.FromContext(ctx)
	if !ok {
		return Scope{}, false
	}
	return Scope{s, unit.Value(ctx, unit.ControlKey{}).(Control)}, true
}
