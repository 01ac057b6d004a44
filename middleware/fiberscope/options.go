package fiberscope

import (
	"context"
	"log/slog"
	"strings"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
)

// Option changes a [Middleware].
type Option func(*options)

type options struct {
	policy  middleware.Policy[fiber.Ctx]
	failure func(fiber.Ctx, error) error
}

func newOptions(opts []Option) *options {
	o := &options{
		policy: middleware.Policy[fiber.Ctx]{
			Commit:  func(_ fiber.Ctx, status int) bool { return status < fiber.StatusBadRequest },
			OnError: logError,
		},
		failure: func(fiber.Ctx, error) error { return fiber.ErrInternalServerError },
	}
	for _, set := range opts {
		set(o)
	}
	o.policy.Options = append([]dbscope.Option{dbscope.OnHookError(func(ctx context.Context, err error) {
		o.policy.Report(ctx.Value(ctxKey{}).(fiber.Ctx), err)
	})}, o.policy.Options...)
	return o
}

// CommitWhen decides whether the scope is committed, by the request and the
// status of the response. It is not asked where a handler returned an error,
// which rolls back. The default is a status under 400.
func CommitWhen(commit func(c fiber.Ctx, status int) bool) Option {
	return func(o *options) { o.policy.Commit = commit }
}

// ReadOnlySafeMethods gives requests with a safe method (GET, HEAD, OPTIONS,
// TRACE: RFC 9110, section 9.2.1) a read-only scope. The default is a scope
// that may write.
func ReadOnlySafeMethods() Option {
	return func(o *options) {
		o.policy.ReadOnly = func(c fiber.Ctx) bool { return fiber.IsMethodSafe(c.Method()) }
	}
}

// Unscoped passes the requests it answers true for on without a scope, such as
// those for static files. The default is that every request has a scope.
func Unscoped(unscoped func(c fiber.Ctx) bool) Option {
	return func(o *options) { o.policy.Unscoped = unscoped }
}

// OnError is told of every error that neither the handler nor fiber gets: a
// failed commit, which the client sees as the failure page; a failed rollback;
// and the errors of after-hooks. The scope is over or about to be, so use
// [dbscope.Run] for database work, and do not keep c. The default is
// [slog.ErrorContext].
func OnError(report func(c fiber.Ctx, err error)) Option {
	return func(o *options) { o.policy.OnError = report }
}

// FailurePage answers instead of the handler when the commit failed. The error
// is that of the commit, or tells why the response could not be sent; it is for
// decisions (errors.Is dbscope.ErrCommitUnknown) and not for the client's eyes.
// The page finds the response headers as they were before the handler, and must
// not use a database; what it returns goes on to fiber's ErrorHandler. The
// default returns [fiber.ErrInternalServerError].
func FailurePage(page func(c fiber.Ctx, err error) error) Option {
	return func(o *options) { o.failure = page }
}

// ScopeOptions are those of every request's scope; [dbscope.Retry] has no
// effect here. The default is none. With several of these options, all count.
func ScopeOptions(opts ...dbscope.Option) Option {
	return func(o *options) { o.policy.Options = append(o.policy.Options, opts...) }
}

func logError(c fiber.Ctx, err error) {
	slog.ErrorContext(c.Context(), "the request's unit of work did not end as it should",
		"error", err, "method", c.Method(), "path", strings.Clone(c.Path())) // fiber uses the path's bytes again
}
