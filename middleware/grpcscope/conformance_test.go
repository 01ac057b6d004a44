package grpcscope_test

import (
	"context"
	"io"
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

const headersStay = "what grpc.SetHeader was told goes out with errors as well, and nobody can take it back"

func TestTheUnaryInterceptorConforms(t *testing.T) {
	middlewaretest.Run(t, middlewaretest.Framework{Serve: serve, Call: callUnary, Lacks: map[middlewaretest.Ability]string{
		middlewaretest.Flush:   "a unary call has one response",
		middlewaretest.Headers: headersStay,
	}})
}

func TestTheStreamInterceptorConforms(t *testing.T) {
	middlewaretest.Run(t, middlewaretest.Framework{Serve: serve, Call: callStream, Lacks: map[middlewaretest.Ability]string{
		middlewaretest.Headers: headersStay,
	}})
}

func serve(t middlewaretest.T, site middlewaretest.Site) string { return serveWith(t, site) }

// serveWith answers both the unary method and streams.
func serveWith(t middlewaretest.T, site middlewaretest.Site, opts ...grpcscope.Option) string {
	opts = append(opts, grpcscope.OnError(func(_ grpcscope.Call, err error) { site.OnError(err) }))
	o := &outermost{site: site}
	var address string
	o.server, address = listen(t,
		&orders{
			place: func(ctx context.Context, _ *text) (*text, error) {
				x := &exchange{ctx: ctx, status: 200}
				if err := x.outcome(site.Handler(x)); err != nil {
					return nil, err
				}
				x.SetHeader("x-status", strconv.Itoa(x.status))
				return wrapperspb.String(x.body.String()), nil
			},
			stream: func(stream grpc.ServerStream) error {
				x := &exchange{ctx: stream.Context(), status: 200, stream: stream}
				if err := x.outcome(site.Handler(x)); err != nil || x.flushed {
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
	status  int
	body    strings.Builder
	stream  grpc.ServerStream // nil where the call is unary
	flushed bool
}

func (x *exchange) Context() context.Context { return x.ctx }
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

// Flush sends a message. An error has no part that goes ahead of it.
func (x *exchange) Flush() error {
	if x.status >= 400 {
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

func callUnary(ctx context.Context, url string) (*middlewaretest.Answer, error) {
	conn, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var header metadata.MD
	body := &text{}
	err = conn.Invoke(ctx, placeMethod, &text{}, body, grpc.Header(&header))
	return answer(header, io.NopCloser(strings.NewReader(body.GetValue())), err), nil
}

func callStream(ctx context.Context, url string) (*middlewaretest.Answer, error) {
	conn, err := dial(url)
	if err != nil {
		return nil, err
	}
	stream, err := conn.NewStream(ctx, &description.Streams[0], watchMethod)
	if err == nil {
		err = stream.SendMsg(&text{})
	}
	if err == nil {
		err = stream.CloseSend()
	}
	first := &text{}
	var header metadata.MD
	if err == nil {
		err = stream.RecvMsg(first)
		header, _ = stream.Header()
	}
	if err != nil {
		_ = conn.Close()
	}
	return answer(header, &messages{conn, stream, strings.NewReader(first.GetValue())}, err), nil
}

// messages reads the messages of a stream. Its status came too late to be that
// of the answer.
type messages struct {
	conn    *grpc.ClientConn
	stream  grpc.ClientStream
	current *strings.Reader
}

func (m *messages) Read(p []byte) (int, error) {
	for m.current.Len() == 0 {
		next := &text{}
		if err := m.stream.RecvMsg(next); err != nil {
			return 0, io.EOF
		}
		m.current = strings.NewReader(next.GetValue())
	}
	return m.current.Read(p)
}

func (m *messages) Close() error { return m.conn.Close() }
