package connectscope

import (
	"context"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
)

// Call is what the options know of a call.
type Call struct {
	Context context.Context // as the client's call has it: without the scope
	Spec    connect.Spec    // the procedure, its kind of stream, its idempotency level
	Peer    connect.Peer
	Header  http.Header // of the request; not to be changed
}

// Option changes an [Interceptor]. Functions in options must be safe for
// concurrent use.
type Option func(*middleware.Policy[Call])

func newRPC(opts []Option) *middleware.RPC[Call] { return middleware.NewRPC(logError, failure, opts) }

// CommitWhen decides whether the scope is committed, by the [connect.Code] that
// the handler's error stands for, 0 where it returned none. At the first message
// of a stream it is asked with 0, and at the end once more. The default is 0
// alone.
func CommitWhen(commit func(c Call, code connect.Code) bool) Option {
	return func(p *middleware.Policy[Call]) {
		p.Commit = func(c Call, code int) bool { return commit(c, connect.Code(code)) }
	}
}

// ReadOnly gives the calls it answers true for a read-only scope, in which
// messages can be sent while rows are open. The default is a scope that may
// write.
func ReadOnly(readOnly func(c Call) bool) Option {
	return func(p *middleware.Policy[Call]) { p.ReadOnly = readOnly }
}

// Unscoped passes the calls it answers true for to the handler without a
// scope, such as health checks. The default is that every call has one.
func Unscoped(unscoped func(c Call) bool) Option {
	return func(p *middleware.Policy[Call]) { p.Unscoped = unscoped }
}

// OnError is told of every error that the handler does not get: a failed
// commit, for which the client gets an error that tells less; a failed
// rollback; rows that were open at the first message; and the errors of
// after-hooks. The scope is over or about to be, so use [dbscope.Run] for
// database work. The default is [slog.ErrorContext].
func OnError(report func(c Call, err error)) Option {
	return func(p *middleware.Policy[Call]) { p.OnError = report }
}

// ScopeOptions are those of every call's scope; [dbscope.Retry] has no effect
// here. The default is none. With several of these options, all count.
func ScopeOptions(opts ...dbscope.Option) Option {
	return func(p *middleware.Policy[Call]) { p.Options = append(p.Options, opts...) }
}

func logError(c Call, err error) {
	slog.ErrorContext(c.Context, "the call's unit of work did not end as it should", "error", err, "procedure", c.Spec.Procedure)
}
