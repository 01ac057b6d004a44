package httpscope

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
)

// Option changes a [Middleware].
type Option func(*options)

type options struct {
	policy    middleware.Policy[*http.Request]
	token     middleware.HTTPToken
	failure   func(http.ResponseWriter, *http.Request, error)
	limit     int
	bodyLimit int // of a request that may be run again; -1 where none may
	buffer    int // bytes of a body that is read before the unit; -1 where none is
	retry     dbscope.Option
}

// defaultHoldLimit is what a response may hold where [HoldLimit] is not given.
const defaultHoldLimit = 64 << 10

func newOptions(opts []Option) *options {
	o := &options{
		policy:    middleware.Policy[*http.Request]{OnError: logError},
		failure:   plainFailure,
		limit:     defaultHoldLimit,
		bodyLimit: -1,
		buffer:    -1,
	}
	for _, set := range opts {
		set(o)
	}
	if o.token != (middleware.HTTPToken{}) {
		o.policy.Token = o.tokenOf
	}
	o.policy.Options = append([]dbscope.Option{dbscope.OnHookError(func(ctx context.Context, err error) {
		o.policy.Report(ctx.Value(requestKey{}).(*http.Request), err)
	})}, o.policy.Options...)
	return o
}

// CommitWhen decides whether the scope is committed, by the request as the
// handler saw it and the status of the response: 200 where the handler set
// none, 101 where it hijacked the connection without one. It is asked once
// more at the end when the response began before. The default is a status
// under 400.
func CommitWhen(commit func(r *http.Request, status int) bool) Option {
	return func(o *options) { o.policy.Commit = commit }
}

// ReadOnlySafeMethods gives requests with a safe method (GET, HEAD, OPTIONS,
// TRACE: RFC 9110, section 9.2.1) a read-only scope, in which rows can be
// streamed past the [HoldLimit]. A statement that writes, or locks rows with
// SELECT ... FOR UPDATE, is refused in it, by PostgreSQL with SQLSTATE 25006. The
// default is a scope that may write.
func ReadOnlySafeMethods() Option {
	return func(o *options) { o.policy.ReadOnly = isSafe }
}

// Retry calls the handler again, with the same request, where the database
// undid its work for a reason that need not happen again; see [dbscope.Retry].
// What the handler did elsewhere, in a cache or at another service, it then
// does again. What a handler reads of the body is kept in memory for the next
// attempt, and nothing is read that no handler reads. There is no other attempt
// for a request whose body is larger than bodyLimit bytes, or could not be read,
// nor once the response has begun. Informational responses are sent by each attempt.
// The rest of the chain must be one that can be run again: a router that keeps
// its place in the context, as chi's sub-routers do, belongs outside.
// The default is one attempt.
func Retry(policy dbscope.RetryPolicy, bodyLimit int) Option {
	return func(o *options) { o.retry, o.bodyLimit = dbscope.Retry(policy), bodyLimit }
}

// Unscoped passes the requests it answers true for to the handler without a
// scope and without holding the response, such as those for static files. The
// default is that every request has a scope.
func Unscoped(unscoped func(r *http.Request) bool) Option {
	return func(o *options) { o.policy.Unscoped = unscoped }
}

// OnError is told of every error that the handler does not get: a failed
// commit and what kept a response from being sent, which the client sees as
// the failure page; a failed rollback; whatever fails after the response has
// begun; and the errors of after-hooks. The request is the one the handler saw; its scope is over or about
// to be, so use [dbscope.Run] for database work. The default is
// [slog.ErrorContext].
func OnError(report func(r *http.Request, err error)) Option {
	return func(o *options) { o.policy.OnError = report }
}

// FailurePage is sent instead of the handler's response when the commit
// failed. The error is that of the commit, or tells why the response could not
// be sent; it is for decisions (errors.Is dbscope.ErrCommitUnknown) and not for
// the client's eyes. The page finds the response headers as they were before the
// handler, and must not use a database. The default is a plain 500 "Internal
// Server Error".
func FailurePage(page func(w http.ResponseWriter, r *http.Request, err error)) Option {
	return func(o *options) { o.failure = page }
}

// HoldLimit sets how many bytes of a response's body are held, in memory; what
// passes it is decided upon at that moment. With 0 the first byte decides. The
// default is 64 KiB.
func HoldLimit(bytes int) Option {
	return func(o *options) { o.limit = max(bytes, 0) }
}

// BufferBody reads the body of each request whole, into memory, before the unit
// begins and the handler is called: however slowly a client sends, no connection
// is held meanwhile. [http.Server.ReadTimeout] bounds how long that takes. The
// handler finds the body as it would without the option, and its trailers too.
//
// A body of more than limit bytes is answered with status 413, and the handler is
// not called; nor is it where the body could not be read, which is answered with
// status 400, or 408 where a timeout of the server was passed. Neither has a unit,
// and [OnError] is told of neither. [Retry] keeps no second copy; there is another
// attempt only for bodies within its own limit.
//
// Requests without a unit are not read. Routes for large uploads, and those that
// answer while they read, need a middleware of their own without this option. The
// default is to leave the body to the handler; see [ClientTimeout].
func BufferBody(limit int) Option {
	return func(o *options) { o.buffer = max(limit, 0) }
}

// ClientTimeout bounds how long a request's connections wait for its client. The
// time runs while the handler reads the body, or writes a response that has begun,
// and the unit, or one begun inside it, holds a connection on which no statement
// runs; from when the first connection was taken until all have gone back. When it
// is over the unit is rolled back and its connections go back to their pools, even
// though the handler is still blocked. That read or write and all later ones
// return an error that wraps [os.ErrDeadlineExceeded] and says what to do, and the
// connection's deadlines are set so that it returns soon. Statements of the unit
// return [dbscope.ErrRolledBack]. [OnError] gets the error, once, from another
// goroutine while the handler waits.
//
// The client gets the failure page, see [FailurePage], by default with status 408
// where it was too slow to send its body; a response that has begun is cut off.
// The default is 30 seconds; with 0 and less there is no bound.
//
// A goroutine that reads ahead while the handler works with something else than
// the database counts as well. Not counted are waits without a connection, for
// which [http.Server] has ReadTimeout and WriteTimeout, and those of a connection
// that was hijacked.
func ClientTimeout(d time.Duration) Option {
	return func(o *options) { o.policy.ClientTimeout = cmp.Or(d, -1) }
}

// ScopeOptions are those of every request's scope; for [dbscope.Retry], which
// has no effect here, see [Retry]. The default is none. With
// several of these options, all count.
func ScopeOptions(opts ...dbscope.Option) Option {
	return func(o *options) { o.policy.Options = append(o.policy.Options, opts...) }
}

// UnitName says what the unit of a request is called, for its observers, see
// [dbscope.Name]. It is called only where somebody observes, perhaps after the request,
// of which it must change nothing. The default is the method and the pattern of the
// mux, as in "GET /orders/{id}", or the method alone where no mux has left a pattern in
// the request: one has to be the next thing outside or inside that makes no copy of it.
func UnitName(name func(r *http.Request) string) Option {
	return func(o *options) { o.policy.Name = name }
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
// The token is set when the headers of the response go out, where something
// was committed until then, of this scope or of others that were begun under
// it: also on the failure page, and where a commit's outcome is unknown. What is
// committed later is in no token; so a handler that streams writes before its
// first flush. A token that is forged, too old or nonsense is as good as none.
// For a request with [Unscoped] the token counts, and none is set; one whose
// context has a scope already is left to who began that.
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
func (o *options) tokenOf(r *http.Request) string {
	return o.token.Of(r.Header.Get, func(name string) string {
		c, err := r.Cookie(name)
		if err != nil {
			return ""
		}
		return c.Value
	})
}

func isSafe(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

func logError(r *http.Request, err error) {
	slog.ErrorContext(r.Context(), "the request's unit of work did not end as it should",
		"error", err, "method", r.Method, "path", r.URL.Path)
}

func plainFailure(w http.ResponseWriter, _ *http.Request, err error) {
	var slow *middleware.SlowClientError
	if errors.As(err, &slow) && !slow.Sending {
		refuse(w, http.StatusRequestTimeout)
		return
	}
	http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
}
