// Package grpcscope gives every call of a gRPC server its own unit of work.
// Everything that the handler does with a [dbscope.DB] is one transaction, also in
// the functions that it passes the call's context to. The transaction is committed
// before the client sees an answer.
//
//	grpc.NewServer(
//		grpc.ChainUnaryInterceptor(recovery, logging, grpcscope.UnaryServerInterceptor()),
//		grpc.ChainStreamInterceptor(recoveryStream, loggingStream, grpcscope.StreamServerInterceptor()),
//	)
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
// An error with a status goes on to the client as it is. Of any other error the
// client is told only Internal, "internal error", and [OnError] gets the error
// itself; see [ShowErrors]. Headers and trailers stay as the handler set them,
// since they tell no success.
//
// If the commit fails, [OnError] gets the error, and the client gets one of these,
// without the database's words:
//
//   - [codes.Aborted] if nothing is stored and the same call may succeed, as after
//     a serialization failure;
//   - [codes.Internal] otherwise. If the commit's answer was lost
//     ([dbscope.ErrCommitUnknown]), the text says that the work may be done.
//
// # Streams
//
// A stream is decided when the handler sends its first message, which for client
// streaming is the only one: the scope is committed, and then the message goes out.
// What the handler does with a database later is a new transaction, which ends when
// the handler returns. If that commit fails, the status of the stream is one of the
// above.
//
// Open rows would not survive the first commit. If some are open, SendMsg returns
// an error that says what to do, and the client gets Internal. A read-only scope can
// stream while rows are open, and its transaction ends with each message that is
// sent while nothing is open; see [ReadOnly]. After the first message
// [dbscope.DB.Commit] gives the connection back, for a stream that goes on for long.
//
// [ClientTimeout] limits how long the connections of a stream's unit wait for its
// client, to send or to receive.
//
// # Replicas
//
// If read-only calls go to replicas, see [dbscope.Router], [TokenMetadata] lets a
// client read there what it has written itself.
package grpcscope

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dbscope/dbscope/middleware"
)

// UnaryServerInterceptor returns an interceptor that runs each unary call in a
// scope of its own. It is safe for concurrent use, blocks for the commit, and
// does no I/O for a call that touches no database.
//
// Place interceptors that recover from panics, log, count or translate errors
// outside it, that is before it in a chain: they see what the client gets. Those
// whose work belongs to the unit, and whose errors should undo it, go inside.
func UnaryServerInterceptor(opts ...Option) grpc.UnaryServerInterceptor {
	rpc := newRPC(opts)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		call := Call{Context: ctx, FullMethod: info.FullMethod}
		unit, started := rpc.Start(ctx, call)
		if !started {
			resp, err := handler(ctx, req)
			return resp, rpc.Answer(ctx, call, err)
		}
		defer unit.Abandon()
		resp, err := handler(unit.Context, req)
		if err := unit.Finish(err); err != nil {
			return nil, err
		}
		return resp, nil
	}
}

// StreamServerInterceptor is UnaryServerInterceptor for streams of all kinds.
func StreamServerInterceptor(opts ...Option) grpc.StreamServerInterceptor {
	rpc := newRPC(opts)
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		call := Call{ss.Context(), info.FullMethod, info.IsClientStream, info.IsServerStream}
		unit, started := rpc.Start(call.Context, call)
		if !started {
			return rpc.Answer(call.Context, call, handler(srv, ss))
		}
		defer unit.Abandon()
		return unit.Finish(handler(srv, &stream{ss, unit}))
	}
}

// stream has the unit decided before a message goes out, and bounds how long its
// connections wait for messages.
type stream struct {
	grpc.ServerStream
	unit *middleware.Unit[Call]
}

func (s *stream) Context() context.Context { return s.unit.Context }

func (s *stream) SendMsg(m any) error {
	return s.unit.Send(func() error { return s.ServerStream.SendMsg(m) })
}

func (s *stream) RecvMsg(m any) error {
	return s.unit.Receive(func() error { return s.ServerStream.RecvMsg(m) })
}

// failure is one as gRPC sends it.
type failure struct{ *middleware.Failure }

func (f failure) GRPCStatus() *status.Status {
	return status.New(codes.Code(f.Code), f.Error())
}

// codeOf is the code that the server sends for a handler's error, and whether it
// is that of a status. One that says OK is nobody's: the server would tell the
// client of a success.
func codeOf(err error) (code int, own bool) {
	s, own := status.FromError(err)
	if !own {
		s = status.FromContextError(err)
	}
	return int(s.Code()), own && s.Code() != codes.OK
}
