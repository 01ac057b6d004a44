// Package connectscope gives every call of a Connect server its own unit of work.
// Everything that the handler does with a [dbscope.DB] is one transaction, also in
// the functions that it passes the call's context to. The transaction is committed
// before the client sees an answer, over the Connect, the gRPC and the gRPC-Web
// protocol.
//
//	mux.Handle(orderv1connect.NewOrdersHandler(server,
//		connect.WithInterceptors(recovery, logging, connectscope.Interceptor())))
//
// # What decides
//
// A handler that returns no error is committed, one that returns an error is
// rolled back; see [CommitWhen].
//
//   - A panic, or [runtime.Goexit], rolls back as well. The panic goes on to the
//     interceptors outside with its stack whole.
//   - After [dbscope.MarkRollback] the scope is rolled back, and the answer is sent
//     as it is.
//   - The cancellation of the call does not decide: a handler that returns no error
//     is committed, also if the client is gone.
//   - A call whose context has a scope already is passed on untouched: that scope
//     stays in charge.
//
// # What the client is told
//
// A [connect.Error] goes on to the client as it is. Of any other error the client is
// told only CodeInternal, "internal error", and [OnError] gets the error itself; see
// [ShowErrors]. The headers and trailers of an answer stay as the handler set them;
// those of a unary response that is not sent are dropped with it.
//
// If the commit fails, [OnError] gets the error, and the client gets one of these,
// without the database's words:
//
//   - [connect.CodeAborted] if nothing is stored and the same call may succeed, as
//     after a serialization failure;
//   - [connect.CodeInternal] otherwise. If the commit's answer was lost
//     ([dbscope.ErrCommitUnknown]), the text says that the work may be done.
//
// # Streams
//
// A stream is decided when the handler sends its first message, which for client
// streaming is its response: the scope is committed, and then the message goes out.
// What the handler does with a database later is a new transaction, which ends when
// the handler returns. If that commit fails, the stream ends with one of the above.
// Sending nil sends headers, and decides nothing.
//
// Open rows would not survive the first commit. If some are open, Send returns an
// error that says what to do, and the client gets CodeInternal. A read-only scope
// can stream while rows are open, and its transaction ends with each message that
// is sent while nothing is open; see [ReadOnly]. After the first message
// [dbscope.DB.Commit] gives the connection back, for a stream that goes on for long.
//
// [ClientTimeout] limits how long the connections of a stream's unit wait for its
// client, to send or to receive.
//
// # Replicas
//
// If read-only calls go to replicas, see [dbscope.Router], [TokenHeader] lets a
// client read there what it has written itself.
package connectscope

import (
	"context"
	"errors"
	"os"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope/middleware"
)

// Interceptor returns an interceptor that runs each call of a handler in a
// scope of its own; clients it leaves alone. It is safe for concurrent use,
// blocks for the commit, and does no I/O for a call that touches no database.
//
// Place interceptors that recover from panics ([connect.WithRecover]), log,
// count or translate errors outside it, that is before it: they see what the
// client gets. Those whose work belongs to the unit, and whose errors should
// undo it, go inside.
func Interceptor(opts ...Option) connect.Interceptor { return interceptor{newRPC(opts)} }

type interceptor struct{ rpc *middleware.RPC[Call] }

func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}
		call := Call{ctx, req.Spec(), req.Peer(), req.Header(), nil}
		unit, started := i.rpc.Start(ctx, call)
		if !started {
			resp, err := next(ctx, req)
			return resp, i.rpc.Answer(ctx, call, err)
		}
		defer unit.Abandon()
		resp, err := next(unit.Context, req)
		if err := unit.Finish(err); err != nil {
			return nil, err
		}
		return resp, nil
	}
}

func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		call := Call{ctx, conn.Spec(), conn.Peer(), conn.RequestHeader(), conn}
		unit, started := i.rpc.Start(ctx, call)
		if !started {
			return i.rpc.Answer(ctx, call, next(ctx, conn))
		}
		defer unit.Abandon()
		return unit.Finish(next(unit.Context, &stream{conn, unit}))
	}
}

// stream has the unit decided before a message goes out, and bounds how long its
// connections wait for messages.
type stream struct {
	connect.StreamingHandlerConn
	unit *middleware.Unit[Call]
}

func (s *stream) Send(m any) error {
	if m == nil { // it is the headers
		return s.StreamingHandlerConn.Send(m)
	}
	return s.unit.Send(func() error { return s.StreamingHandlerConn.Send(m) })
}

func (s *stream) Receive(m any) error {
	return s.unit.Receive(func() error { return s.StreamingHandlerConn.Receive(m) })
}

// failure makes Connect's error of one.
func failure(f *middleware.Failure) error { return connect.NewError(connect.Code(f.Code), f) }

// codeOf is the code that the server sends for a handler's error, and whether it
// is that of a [connect.Error]. The code 0 is nobody's: over gRPC's protocols it
// would tell the client of a success.
func codeOf(err error) (code int, own bool) {
	var e *connect.Error
	switch {
	case errors.As(err, &e):
		return int(e.Code()), e.Code() != 0
	case errors.Is(err, context.Canceled):
		return int(connect.CodeCanceled), false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return int(connect.CodeDeadlineExceeded), false
	}
	return int(connect.CodeUnknown), false
}
