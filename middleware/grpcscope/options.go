package grpcscope

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
)

// Call is what the options know of a call.
type Call struct {
	Context      context.Context // as the client's call has it: without the scope
	FullMethod   string          // "/package.Service/Method"
	ClientStream bool            // the client may send several messages
	ServerStream bool            // the server may
}

// Option changes the interceptors. Functions in options must be safe for
// concurrent use.
type Option func(*middleware.Policy[Call])

func newRPC(opts []Option) *middleware.RPC[Call] {
	named := func(p *middleware.Policy[Call]) { p.Name = func(c Call) string { return c.FullMethod } }
	return middleware.NewRPC(logError, codeOf, func(f *middleware.Failure) error { return failure{f} }, append([]Option{named}, opts...))
}

// CommitWhen decides whether the scope is committed, by the [codes.Code] that
// the client gets for the handler's error. At the first message of a stream it is asked
// with codes.OK, and at the end once more. The default is codes.OK alone.
func CommitWhen(commit func(c Call, code codes.Code) bool) Option {
	return func(p *middleware.Policy[Call]) {
		p.Commit = func(c Call, code int) bool { return commit(c, codes.Code(code)) }
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

// ShowErrors sends the errors of handlers that it answers true for to the client
// as gRPC does without this package: with their text and [codes.Unknown]. The
// default is none: an error without a status may tell of hosts, roles, and what
// is stored. So the client gets [codes.Internal], "internal error", or the code of
// a context's error with that one's text; [OnError] gets the error, unless the
// call was given up; and interceptors outside find it with [errors.Is] and
// [errors.As]. An error that is, or wraps, one with a status is the handler's own
// word to the client, and stays as it is.
func ShowErrors(show func(err error) bool) Option {
	return func(p *middleware.Policy[Call]) { p.ShowErrors = show }
}

// OnError is told of every error that the client is to see less of, or nothing:
// one that the handler returned without a status, see [ShowErrors]; a failed
// commit; a failed rollback; rows that were open at the first message; and the
// errors of after-hooks. The scope is over or about to be, so use [dbscope.Run] for
// database work. The default is [slog.ErrorContext].
func OnError(report func(c Call, err error)) Option {
	return func(p *middleware.Policy[Call]) { p.OnError = report }
}

// ClientTimeout bounds how long a call's connections wait for its client. The time
// runs while the handler of a stream receives or sends, and the unit, or one begun
// inside it, holds a connection on which no statement runs; from when the first
// connection was taken until all have gone back. When it is over the unit is
// rolled back and its connections go back to their pools, even though the handler
// is still blocked: nothing ends that before the client goes on or away. Then and
// later RecvMsg and SendMsg return an error that wraps
// [os.ErrDeadlineExceeded]; the client gets [codes.DeadlineExceeded]. [OnError] is told, once, by
// another goroutine while the handler waits. The default is 30 seconds; with 0 and
// less there is no bound.
//
// A goroutine that receives ahead while the handler works with something else than
// the database counts as well.
func ClientTimeout(d time.Duration) Option {
	return func(p *middleware.Policy[Call]) { p.ClientTimeout = cmp.Or(d, -1) }
}

// ScopeOptions are those of every call's scope; [dbscope.Retry] has no effect
// here. The default is none. With several of these options, all count.
func ScopeOptions(opts ...dbscope.Option) Option {
	return func(p *middleware.Policy[Call]) { p.Options = append(p.Options, opts...) }
}

// TokenMetadata lets clients read what they have written: the answer to a call
// that wrote carries the token of [dbscope.WritesToken] in its trailer, and a
// call with the token in metadata of that name reads from replicas only what is
// as new, see [dbscope.ReadYourWrites]. That needs DBs with the option
// [dbscope.Router], and scopes that may read from a replica, see [ReadOnly]. The
// example has a client's interceptor for it.
//
// The token is in the trailer alone, because every answer has one, an error too,
// and it is sent when all is committed: the token tells of what a stream wrote
// after its first message as well, and a client has one place to look. One that
// breaks a stream off gets none. It is set where something was committed,
// of this scope or of others that were begun under it, also where the call then
// fails or a commit's outcome is unknown, and counts for 30 seconds. A token that
// is forged, too old or nonsense is as good as none. For a call with [Unscoped]
// the token counts, and none is set; one whose context has a scope already is left
// to who began that.
//
// It panics where there can be no metadata of that name, such as one that begins
// with grpc- or ends with -bin. The default is no token.
func TokenMetadata(name string) Option {
	name = strings.ToLower(name)
	return func(p *middleware.Policy[Call]) {
		p.TokenInTrailer(name, func(c Call) string {
			for _, token := range metadata.ValueFromIncomingContext(c.Context, name) {
				return token
			}
			return ""
		}, func(c Call, token string) {
			_ = grpc.SetTrailer(c.Context, metadata.Pairs(name, token)) // it fails where nobody listens any more
		})
	}
}

func logError(c Call, err error) {
	slog.ErrorContext(c.Context, "the call's unit of work did not end as it should", "error", err, "method", c.FullMethod)
}
