package grpcscope_test

import (
	"context"
	"io"
	"maps"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope/middleware/grpcscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

type abilities = map[middlewaretest.Ability]string

const (
	once  = "there is one response"
	there = "the one request is there before the handler is called"
)

// methods are those of all kinds, with what they lack.
var methods = map[string]abilities{
	placeMethod: {
		middlewaretest.Flush: once, middlewaretest.Receive: there,
		middlewaretest.ClientTimeout: "the handler of a unary call does not wait for its client",
	},
	watchMethod:  {middlewaretest.Receive: there},
	uploadMethod: {middlewaretest.Flush: once},
	chatMethod:   nil,
}

// lacks is what gRPC lacks, and a method.
func lacks(method string) abilities {
	lacks := abilities{
		middlewaretest.Headers:    "what grpc.SetHeader was told goes out with errors as well, and nobody can take it back",
		middlewaretest.SetContext: "a handler's context is its own",
		middlewaretest.Hijack:     "a connection is that of many calls",
		middlewaretest.BufferBody: "there is no such option",
		middlewaretest.Retry:      "there is no such option",
	}
	maps.Copy(lacks, methods[method])
	return lacks
}

func TestTheInterceptorsConform(t *testing.T) {
	for method := range methods {
		t.Run(method, func(t *testing.T) {
			middlewaretest.Run(t, middlewaretest.Framework{Serve: serve, Call: call(method), Lacks: lacks(method)})
		})
	}
}

func serve(t middlewaretest.T, site middlewaretest.Site) string { return serveWith(t, site) }

// serveWith answers both the unary method and streams.
func serveWith(t middlewaretest.T, site middlewaretest.Site, opts ...grpcscope.Option) string {
	opts = append(options(site), opts...)
	o := &outermost{site: site}
	var address string
	o.server, address = listen(t,
		&orders{
			place: func(ctx context.Context, order *text) (*text, error) {
				x := &exchange{ctx: ctx, in: strings.NewReader(order.GetValue()), status: 200}
				if err := x.outcome(site.Handler(x)); err != nil {
					return nil, err
				}
				x.SetHeader("x-status", strconv.Itoa(x.status))
				return wrapperspb.String(x.body.String()), nil
			},
			stream: func(stream grpc.ServerStream) error {
				x := &exchange{ctx: stream.Context(), in: reader(stream), status: 200, stream: stream}
				if err := x.outcome(site.Handler(x)); err != nil {
					return err
				}
				return x.Flush()
			},
		},
		grpc.ChainUnaryInterceptor(o.unary, grpcscope.UnaryServerInterceptor(opts...)),
		grpc.ChainStreamInterceptor(o.stream, grpcscope.StreamServerInterceptor(opts...)),
	)
	return address
}

func options(site middlewaretest.Site) []grpcscope.Option {
	all := func(want bool) func(grpcscope.Call) bool { return func(grpcscope.Call) bool { return want } }
	opts := []grpcscope.Option{
		grpcscope.OnError(func(_ grpcscope.Call, err error) { site.OnError(err) }),
		grpcscope.ReadOnly(all(site.Options.ReadOnly)), grpcscope.Unscoped(all(site.Options.Unscoped)),
	}
	if limit := site.Options.ClientTimeout; limit != 0 {
		opts = append(opts, grpcscope.ClientTimeout(limit))
	}
	if name := site.Options.TokenHeader; name != "" {
		opts = append(opts, grpcscope.TokenMetadata(name))
	}
	return opts
}

// outermost is the recovery, and what changes the context.
type outermost struct {
	site   middlewaretest.Site
	server *grpc.Server
}

func (o *outermost) context(ctx context.Context) context.Context {
	if o.site.Context != nil {
		return o.site.Context(ctx)
	}
	return ctx
}

// recover is deferred. A server whose handler left by Goexit never answers:
// here it stops instead.
func (o *outermost) recover(returned *bool, err *error) {
	if v := recover(); v != nil {
		o.site.Recovered(v)
		*err = status.Error(codes.Internal, "recovered")
	} else if !*returned {
		go o.server.Stop()
	}
}

func (o *outermost) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	returned := false
	defer o.recover(&returned, &err)
	resp, err = handler(o.context(ctx), req)
	returned = true
	return resp, err
}

func (o *outermost) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	returned := false
	defer o.recover(&returned, &err)
	err = handler(srv, &withContext{ss, o.context(ss.Context())})
	returned = true
	return err
}

type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *withContext) Context() context.Context { return s.ctx }

// exchange turns statuses of HTTP into codes. What is written is one message,
// or the text of an error.
type exchange struct {
	ctx     context.Context
	in      io.Reader
	status  int
	body    strings.Builder
	stream  grpc.ServerStream // nil where the call is unary
	flushed bool
}

func (x *exchange) Context() context.Context { return x.ctx }
func (x *exchange) Body() io.Reader          { return x.in }
func (x *exchange) Status(code int)          { x.status = code }

// SetHeader fails where the client is gone.
func (x *exchange) SetHeader(key, value string) {
	_ = grpc.SetHeader(x.ctx, metadata.Pairs(key, value))
}

func (x *exchange) Write(body string) error {
	if x.flushed {
		return x.stream.SendMsg(wrapperspb.String(body))
	}
	x.body.WriteString(body)
	return nil
}

// Flush sends the first message; after it each Write sends one. An error has no
// part that goes ahead of it.
func (x *exchange) Flush() error {
	if x.status >= 400 || x.flushed {
		return nil
	}
	x.flushed = true
	x.SetHeader("x-status", strconv.Itoa(x.status))
	return x.stream.SendMsg(wrapperspb.String(x.body.String()))
}

func (x *exchange) outcome(err error) error {
	for code, as := range statuses {
		if err == nil && as == x.status {
			err = status.Error(code, x.body.String())
		}
	}
	return err
}

var statuses = map[codes.Code]int{
	codes.InvalidArgument: 400,
	codes.NotFound:        404,
	codes.AlreadyExists:   409,
	codes.Internal:        500,
	codes.Unavailable:     503,

	codes.DeadlineExceeded: 408,
}

// answer is what the client got with the headers, or as an error before them.
func answer(header metadata.MD, body io.ReadCloser, err error) *middlewaretest.Answer {
	a := &middlewaretest.Answer{Status: 500, Body: body, Header: func(key string) string {
		return strings.Join(header.Get(key), ", ")
	}}
	if err != nil {
		if as, ok := statuses[status.Code(err)]; ok {
			a.Status = as
		}
		a.Body = io.NopCloser(strings.NewReader(status.Convert(err).Message()))
		return a
	}
	a.Status, _ = strconv.Atoi(a.Header("x-status"))
	return a
}

// call calls a method of any kind as one that streams both ways, which is the
// same to the server.
func call(method string) func(context.Context, string, io.Reader) (*middlewaretest.Answer, error) {
	return func(ctx context.Context, url string, body io.Reader) (*middlewaretest.Answer, error) {
		conn, err := dial(url)
		if err != nil {
			return nil, err
		}
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			_ = conn.Close()
			return answer(nil, nil, err), nil
		}
		if _, one := methods[method][middlewaretest.Receive]; one {
			request, _ := io.ReadAll(body)
			_ = send(stream, string(request)) // its error is the answer's
			_ = stream.CloseSend()
		} else {
			go sendAll(stream, body)
		}
		messages := reader(stream)
		_, err = messages.Read(nil)
		header, _ := stream.Header()
		if err != nil {
			_ = conn.Close()
		}
		return answer(header, closing{messages, conn}, err), nil
	}
}

// sendAll sends what comes as messages.
func sendAll(stream grpc.ClientStream, body io.Reader) {
	part := make([]byte, 1000)
	for {
		n, err := body.Read(part)
		if n > 0 && send(stream, string(part[:n])) != nil {
			return
		}
		if err != nil {
			_ = stream.CloseSend()
			return
		}
	}
}

// messages reads the messages of a stream, from the client or the server.
type messages struct {
	receive func() (string, error)
	current *strings.Reader // nil before the first
}

func reader(stream interface{ RecvMsg(any) error }) *messages {
	return &messages{receive: func() (string, error) {
		next := &text{}
		err := stream.RecvMsg(next)
		return next.GetValue(), err
	}}
}

// Read of nothing waits for a message.
func (m *messages) Read(p []byte) (int, error) {
	for m.current == nil || m.current.Len() == 0 && len(p) > 0 {
		next, err := m.receive()
		if err != nil {
			return 0, err
		}
		m.current = strings.NewReader(next)
	}
	if len(p) == 0 {
		return 0, nil
	}
	return m.current.Read(p)
}

type closing struct {
	io.Reader
	io.Closer
}
