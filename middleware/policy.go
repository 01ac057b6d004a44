// Package middleware is what the middlewares of all frameworks share: the
// [Policy] that decides about a request's unit of work. Only writers of
// middlewares need it; docs/middleware.md shows how to write one.
package middleware

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/dbscope/dbscope"
)

// Policy decides about the unit of work of each request. R is a request as the
// framework knows it, such as *http.Request; code is the framework's word for
// how it went, an HTTP status or a gRPC code. The zero value of each field is
// its default, so that the zero Policy is ready to use. The functions must be
// safe for concurrent use.
type Policy[R any] struct {
	// Unscoped: requests it answers true for have no scope. The default is
	// that every request has one.
	Unscoped func(r R) bool
	// ReadOnly: requests it answers true for have a read-only scope. The
	// default is scopes that may write.
	ReadOnly func(r R) bool
	// Commit: requests it answers true for are committed, the others rolled
	// back. By default HTTP statuses from 100 to 399 are committed, and 0, which is
	// gRPC's code OK and the status of a response that has none yet. Every other
	// code is rolled back, be it a failure in HTTP, one in gRPC, or in neither.
	Commit func(r R, code int) bool
	// OnError is told of every error that the handler does not get. The default
	// is a line in the log, of [slog.Error].
	OnError func(r R, err error)
	// ShowErrors: errors of handlers it answers true for are for the client's
	// eyes, text and all. The default is none: an error that does not say itself
	// what the client is to know is masked, and goes to OnError. It counts where
	// the framework would send the text of such an error.
	ShowErrors func(err error) bool
	// Token returns the token that a request has brought for
	// [dbscope.ReadYourWrites], or "" for none; it may be any text. The default
	// is that tokens are neither taken nor given, see [Policy.NewToken].
	Token    func(r R) string
	putToken func(r R, token string) // see TokenInTrailer; nil is nowhere
	// ClientTimeout is how long the connections of a unit may wait for its client,
	// see [ClientWait]. The default is 30 seconds; less than 0 is no bound.
	ClientTimeout time.Duration
	// Name returns what the unit of a request is called, for observers: its route, or
	// the procedure. It is asked only where somebody observes, and perhaps when the
	// request is over. The default is no name, or one that [WithName] has given.
	Name func(r R) string
	// Options are those of every scope.
	Options []dbscope.Option
}

// Scoped reports whether the request is to have a scope of its own. One whose
// context has a scope already has not: that stays in charge.
func (p *Policy[R]) Scoped(ctx context.Context, r R) bool {
	_, scoped := dbscope.FromContext(ctx)
	return !scoped && (p.Unscoped == nil || !p.Unscoped(r))
}

// Begin puts a new scope for the request into the context.
func (p *Policy[R]) Begin(ctx context.Context, r R, more ...dbscope.Option) (context.Context, Scope) {
	var few [8]dbscope.Option // so that the usual request makes no slice
	opts := append(append(few[:0], p.Options...), more...)
	if p.ReadOnly != nil && p.ReadOnly(r) {
		opts = append(opts, dbscope.ReadOnly())
	}
	if p.Name != nil {
		ctx = &named[R]{ctx, p, r}
	}
	ctx, _ = dbscope.Begin(ctx, opts...)
	scope, _ := ScopeOf(ctx)
	return ctx, scope
}

// Decide commits the scope or rolls it back. It returns the error of a commit
// that was to be, for which the client must not be told of a success, and
// reports all others. After [dbscope.MarkRollback] there is nothing to return. The scope
// goes on, for a response that begins before its handler is done.
func (p *Policy[R]) Decide(ctx context.Context, scope Scope, r R, code int) error {
	if !p.Commits(r, code) {
		p.Report(r, scope.Rollback(ctx))
		return nil
	}
	return p.committed(r, scope.Commit(ctx))
}

// Finish is Decide for a handler that is done: the scope is over.
func (p *Policy[R]) Finish(ctx context.Context, scope Scope, r R, code int) error {
	commits := p.Commits(r, code)
	err := scope.Finish(ctx, commits)
	if !commits {
		p.Report(r, err)
		return nil
	}
	return p.committed(r, err)
}

// committed returns the error of a commit, unless it only tells of MarkRollback.
func (p *Policy[R]) committed(r R, err error) error {
	if errors.Is(err, dbscope.ErrRollbackOnly) && !errors.Is(err, dbscope.ErrRolledBack) { // which says that a hook failed
		var several interface{ Unwrap() []error }
		if errors.As(err, &several) { // the rollback failed
			p.Report(r, err)
		}
		return nil
	}
	return err
}

// Commits reports whether a request that went as code says is committed, as the
// field Commit says, or its default.
func (p *Policy[R]) Commits(r R, code int) bool {
	if p.Commit != nil {
		return p.Commit(r, code)
	}
	return code == ok || 100 <= code && code < http.StatusBadRequest
}

// Report passes an error on that the handler does not get; nil is none.
func (p *Policy[R]) Report(r R, err error) {
	switch {
	case err == nil:
	case p.OnError != nil:
		p.OnError(r, err)
	default:
		slog.Error("a request's unit of work did not end as it should", "error", err)
	}
}

// Shows reports whether an error is for the client's eyes, as ShowErrors says.
func (p *Policy[R]) Shows(err error) bool { return p.ShowErrors != nil && p.ShowErrors(err) }
