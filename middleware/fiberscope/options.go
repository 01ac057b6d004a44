package fiberscope

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
)

// Option changes a [Middleware].
type Option func(*options)

type options struct {
	policy  middleware.Policy[fiber.Ctx]
	token   middleware.HTTPToken
	failure func(fiber.Ctx, error) error
}

func newOptions(opts []Option) *options {
	o := &options{
		policy:  middleware.Policy[fiber.Ctx]{OnError: logError},
		failure: func(fiber.Ctx, error) error { return fiber.ErrInternalServerError },
	}
	for _, set := range opts {
		set(o)
	}
	if o.token != (middleware.HTTPToken{}) {
		o.policy.Token = o.tokenOf
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

// ShowErrors passes the errors of handlers that it answers true for on to fiber's
// default ErrorHandler as they are, which sends their text to the client. The
// default is none: an error that neither is nor wraps a [fiber.Error] may tell of
// hosts, roles, and what is stored. So the client gets a plain 500 "Internal
// Server Error", [OnError] the error, and middlewares outside find it with
// [errors.Is] and [errors.As].
//
// It does not count where the application has an ErrorHandler of its own: that
// gets all errors as they are, and decides what it tells. One that only a
// mounted application has gets what is described above, for fiber does not say
// which of them will be called.
//
// What fiber's recover middleware makes of a panic goes on to the ErrorHandler
// behind the back of a middleware that stands inside; fiber's default one then
// sends the panic's text. Give the application an ErrorHandler, or place recover
// inside as well.
func ShowErrors(show func(err error) bool) Option {
	return func(o *options) { o.policy.ShowErrors = show }
}

// OnError is told of every error that neither the handler nor fiber gets: one
// that the handler returned and that is masked, see [ShowErrors]; a failed
// commit, which the client sees as the failure page; a failed rollback; and the
// errors of after-hooks. The scope is over or about to be, so use
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

// TokenCookie lets clients read what they have written: a response to a request
// that wrote carries the token of [dbscope.WritesToken] in a cookie, and a
// request with the cookie reads from replicas only what is as new, see
// [dbscope.ReadYourWrites]. That needs DBs with the option [dbscope.Router], and
// scopes that may read from a replica, as with [ReadOnlySafeMethods].
//
// The cookie has the template's Name, which is needed, Domain, Secure and
// Partitioned, its Path or "/", and its SameSite or Lax. It is HttpOnly and
// lives 30 seconds, which is how long a token counts. TokenCookie panics where
// a cookie cannot be made of that. The default is no cookie.
//
// The token is set when the handlers have returned, where something was
// committed until then, of this scope or of others that were begun under it:
// also on the failure page, and where a commit's outcome is unknown. What a body
// stream commits is in no token, and a response that c.End or a time limit has
// sent already has none. A token that is forged, too old or nonsense is as good
// as none. For a request with [Unscoped] the token counts, and none is
// set; one whose context has a scope already is left to who began that.
func TokenCookie(template http.Cookie) Option {
	return func(o *options) { o.token.InCookie(template) }
}

// TokenHeader is [TokenCookie] with a header of requests and responses, for
// clients that keep no cookies. It can be given beside it: the request's header
// then wins over its cookie, and responses have both. It panics where there can
// be no header of that name. The default is no header.
func TokenHeader(name string) Option {
	return func(o *options) { o.token.InHeader(name) }
}

// tokenOf returns the token that a request has brought, or "" for none.
func (o *options) tokenOf(c fiber.Ctx) string {
	return o.token.Of(
		func(name string) string { return c.Get(name) },
		func(name string) string { return c.Cookies(name) },
	)
}

func logError(c fiber.Ctx, err error) {
	slog.ErrorContext(c.Context(), "the request's unit of work did not end as it should",
		"error", err, "method", c.Method(), "path", strings.Clone(c.Path())) // fiber uses the path's bytes again
}
