package bench

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dbscope/dbscope/middleware/connectscope"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

type empty = emptypb.Empty

// BenchmarkGRPCCallThatTouchesNoDatabase compares servers with and without the
// interceptor, over real connections.
func BenchmarkGRPCCallThatTouchesNoDatabase(b *testing.B) {
	compare(b, grpcClient(b), grpcClient(b, grpc.UnaryInterceptor(grpcscope.UnaryServerInterceptor())))
}

// The same without a server: what the interceptors themselves take, since the
// handler takes next to nothing. The stream sends one message.
func BenchmarkGRPCInterceptorThatTouchesNoDatabase(b *testing.B) {
	ctx, info := b.Context(), &grpc.UnaryServerInfo{FullMethod: "/bench.Hello/Say"}
	scoped := grpcscope.UnaryServerInterceptor()
	for b.Loop() {
		_, err := scoped(ctx, nil, info, answerUnary)
		must(b, err)
	}
}

func BenchmarkGRPCStreamInterceptorThatTouchesNoDatabase(b *testing.B) {
	stream, info := &noStream{ctx: b.Context()}, &grpc.StreamServerInfo{FullMethod: "/bench.Hello/Say", IsServerStream: true}
	scoped := grpcscope.StreamServerInterceptor()
	for b.Loop() {
		must(b, scoped(nil, stream, info, answerStream))
	}
}

// BenchmarkConnectCallThatTouchesNoDatabase compares handlers with and without
// the interceptor, over real connections.
func BenchmarkConnectCallThatTouchesNoDatabase(b *testing.B) {
	compare(b, connectClient(b), connectClient(b, connect.WithInterceptors(connectscope.Interceptor())))
}

// The same without a server.
func BenchmarkConnectInterceptorThatTouchesNoDatabase(b *testing.B) {
	ctx, request, response := b.Context(), connect.NewRequest(answer), connect.NewResponse(answer)
	scoped := connectscope.Interceptor().WrapUnary(func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) {
		return response, nil
	})
	for b.Loop() {
		_, err := scoped(ctx, request)
		must(b, err)
	}
}

var answer = &empty{}

func answerUnary(context.Context, any) (any, error) { return answer, nil }
func answerStream(_ any, s grpc.ServerStream) error { return s.SendMsg(answer) }

type noStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *noStream) Context() context.Context { return s.ctx }
func (*noStream) SendMsg(any) error          { return nil }

// grpcClient returns a call of a server.
func grpcClient(b *testing.B, opts ...grpc.ServerOption) func() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	server := grpc.NewServer(opts...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Hello",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: func(srv any, ctx context.Context, decode func(any) error, between grpc.UnaryServerInterceptor) (any, error) {
			request := &empty{}
			if err := decode(request); err != nil || between == nil {
				return answer, err
			}
			return between(ctx, request, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/bench.Hello/Say"}, answerUnary)
		}}},
	}, nil)
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	b.Cleanup(func() {
		server.Stop()
		if err := <-served; !errors.Is(err, grpc.ErrServerStopped) {
			must(b, err)
		}
	})
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(b, err)
	b.Cleanup(func() { must(b, conn.Close()) })
	ctx, request, got := b.Context(), &empty{}, &empty{}
	return func() { must(b, conn.Invoke(ctx, "/bench.Hello/Say", request, got)) }
}

// connectClient returns a call of a server.
func connectClient(b *testing.B, opts ...connect.HandlerOption) func() {
	mux := http.NewServeMux()
	mux.Handle("/bench.Hello/Say", connect.NewUnaryHandler("/bench.Hello/Say",
		func(context.Context, *connect.Request[empty]) (*connect.Response[empty], error) {
			return connect.NewResponse(answer), nil
		}, opts...))
	server := httptest.NewServer(mux)
	b.Cleanup(server.Close)
	client := connect.NewClient[empty, empty](server.Client(), server.URL+"/bench.Hello/Say")
	ctx := b.Context()
	return func() {
		_, err := client.CallUnary(ctx, connect.NewRequest(answer))
		must(b, err)
	}
}
