package grpcscope_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type text = wrapperspb.StringValue

// orders is a service as protoc would make it, with a method of each kind.
type orders struct {
	place  func(ctx context.Context, order *text) (*text, error)
	stream func(grpc.ServerStream) error // of all kinds
}

const (
	placeMethod  = "/test.Orders/Place"
	watchMethod  = "/test.Orders/Watch"
	uploadMethod = "/test.Orders/Upload"
	chatMethod   = "/test.Orders/Chat"
)

var description = grpc.ServiceDesc{
	ServiceName: "test.Orders",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Place",
		Handler: func(srv any, ctx context.Context, decode func(any) error, between grpc.UnaryServerInterceptor) (any, error) {
			order := &text{}
			if err := decode(order); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, order any) (any, error) { return srv.(*orders).place(ctx, order.(*text)) }
			if between == nil {
				return handler(ctx, order)
			}
			return between(ctx, order, &grpc.UnaryServerInfo{Server: srv, FullMethod: placeMethod}, handler)
		},
	}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Watch", ServerStreams: true, Handler: handleStream},
		{StreamName: "Upload", ClientStreams: true, Handler: handleStream},
		{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: handleStream},
	},
}

func handleStream(srv any, stream grpc.ServerStream) error { return srv.(*orders).stream(stream) }

// listen starts a server on loopback.
func listen(t middlewaretest.T, service *orders, opts ...grpc.ServerOption) (*grpc.Server, string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	server := grpc.NewServer(opts...)
	server.RegisterService(&description, service)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return server, listener.Addr().String()
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
}

var errInjected = errors.New("driver: secret detail")

// site is a server with the interceptors over a fake database, and a client.
type site struct {
	*orders
	*grpc.ClientConn
	t    testing.TB
	fake *drivertest.Fake
	db   *dbscope.DB[*drivertest.Tx]

	ended chan any // receives, when an interceptor outside has returned, what it recovered

	mu   sync.Mutex
	errs []error
}

// newSite starts a server whose handlers the test sets.
func newSite(t testing.TB, opts ...grpcscope.Option) *site {
	t.Helper()
	fake := drivertest.NewFake()
	s := &site{orders: &orders{}, t: t, fake: fake, db: fake.DB(), ended: make(chan any, 100)}
	opts = append([]grpcscope.Option{grpcscope.OnError(func(_ grpcscope.Call, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	})}, opts...)
	_, address := listen(t, s.orders,
		grpc.ChainUnaryInterceptor(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
				defer s.recover(&err)
				return handler(ctx, req)
			}, grpcscope.UnaryServerInterceptor(opts...)),
		grpc.ChainStreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
				defer s.recover(&err)
				return handler(srv, ss)
			}, grpcscope.StreamServerInterceptor(opts...)),
	)
	conn, err := dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.ClientConn = conn
	return s
}

func (s *site) recover(err *error) {
	v := recover()
	if v != nil {
		*err = status.Error(codes.DataLoss, "recovered")
	}
	s.ended <- v
}

// send calls the unary method.
func (s *site) send(opts ...grpc.CallOption) (string, error) {
	s.t.Helper()
	answer := &text{}
	err := s.Invoke(s.t.Context(), placeMethod, wrapperspb.String("order"), answer, opts...)
	<-s.ended
	return answer.GetValue(), err
}

// open calls a streaming method, with the one request where there is one.
func (s *site) open(method string) grpc.ClientStream {
	s.t.Helper()
	desc := description.Streams[slices.Index([]string{watchMethod, uploadMethod, chatMethod}, method)]
	stream, err := s.NewStream(s.t.Context(), &desc, method)
	if err != nil {
		s.t.Fatal(err)
	}
	if method == watchMethod {
		if err := errors.Join(stream.SendMsg(wrapperspb.String("order")), stream.CloseSend()); err != nil {
			s.t.Fatal(err)
		}
	}
	return stream
}

// receive returns all messages and how the stream ended.
func receive(stream grpc.ClientStream) (messages []string, err error) {
	for {
		message := &text{}
		if err := stream.RecvMsg(message); err != nil {
			return messages, err
		}
		messages = append(messages, message.GetValue())
	}
}

func (s *site) store(ctx context.Context, row string) {
	s.t.Helper()
	if err := drivertest.Exec(ctx, s.db, row); err != nil {
		s.t.Errorf("storing %q: %v", row, err)
	}
}

// query opens rows and leaves them open.
func (s *site) query(ctx context.Context) *drivertest.Rows {
	tx, err := s.db.Session(ctx)
	if err != nil {
		panic(err)
	}
	rows, err := tx.Query(ctx, "all")
	if err != nil {
		panic(err)
	}
	return rows
}

func (s *site) wantRows(want ...string) {
	s.t.Helper()
	if got := s.fake.Rows(); !slices.Equal(got, want) {
		s.t.Errorf("rows %q are stored, want %q", got, want)
	}
}

func (s *site) wantErrors(want ...error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.EqualFunc(s.errs, want, errors.Is) {
		s.t.Errorf("the error hook was told %q, want %q", s.errs, want)
	}
}

func (s *site) wantIdle() {
	s.t.Helper()
	if n := s.fake.Open(); n != 0 {
		s.t.Errorf("%d connections are not back", n)
	}
}

// wantCode checks the client's error, which never tells what the database said.
func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("the client got %v, want %v", err, want)
	}
	if strings.Contains(status.Convert(err).Message(), "secret") {
		t.Errorf("the client got %v", err)
	}
}
