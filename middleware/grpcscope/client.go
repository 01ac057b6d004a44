package grpcscope

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dbscope/dbscope/observe/heldscope"
)

// UnaryClientInterceptor returns an interceptor for clients that tells the observers of a
// unit where it calls another service while a transaction is open, see package
// [heldscope]. It changes nothing about the call.
func UnaryClientInterceptor() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, over := heldscope.Call(ctx, method)
		err := invoker(ctx, method, req, reply, cc, opts...)
		over(err)
		return err
	}
}

// StreamClientInterceptor is UnaryClientInterceptor for streams, which count as over once
// they are open: what is then sent and received is not seen.
func StreamClientInterceptor() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, over := heldscope.Call(ctx, method)
		stream, err := streamer(ctx, desc, cc, method, opts...)
		over(err)
		return stream, err
	}
}
