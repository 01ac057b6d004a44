package connectscope

import (
	"context"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope/observe/heldscope"
)

// ClientInterceptor returns an interceptor for clients that tells the observers of a unit
// where it calls another service while a transaction is open, see package [heldscope]. It
// changes nothing about the call, and leaves handlers alone. Of streams it tells only that
// they are opened.
func ClientInterceptor() connect.Interceptor { return clientInterceptor{} }

type clientInterceptor struct{}

func (clientInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if !req.Spec().IsClient {
			return next(ctx, req)
		}
		ctx, over := heldscope.Call(ctx, req.Spec().Procedure)
		resp, err := next(ctx, req)
		over(err)
		return resp, err
	}
}

func (clientInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		ctx, over := heldscope.Call(ctx, spec.Procedure)
		conn := next(ctx, spec)
		over(nil)
		return conn
	}
}

func (clientInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
