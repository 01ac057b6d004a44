package grpcscope_test

import (
	"context"
	"io"
	"maps"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope/internal/callsite"
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
				x := callsite.New(ctx, strings.NewReader(order.GetValue()), setHeader(ctx), nil)
				answer, err := x.Answer(site.Handler, refuse)
				return wrapperspb.String(answer), err
			},
			stream: func(stream grpc.ServerStream) error {
				ctx := stream.Context()
				x := callsite.New(ctx, reader(stream), setHeader(ctx), func(message string) error { return send(stream, message) })
				_, err := x.Answer(site.Handler, refuse)
				return err
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

// setHeader fails where the client is gone.
func setHeader(ctx context.Context) func(key, value string) {
	return func(key, value string) { _ = grpc.SetHeader(ctx, metadata.Pairs(key, value)) }
}

func refuse(code int, words string) error { return status.Error(codes.Code(code), words) }

// answer is what the client got with the headers, or as an error before them.
func answer(header metadata.MD, body io.ReadCloser, err error) *middlewaretest.Answer {
	a := &middlewaretest.Answer{Body: body, Header: func(key string) string {
		return strings.Join(header.Get(key), ", ")
	}}
	if err != nil {
		a.Status = callsite.Status(int(status.Code(err)))
		a.Body = io.NopCloser(strings.NewReader(status.Convert(err).Message()))
		return a
	}
	a.Status = callsite.HeaderStatus(a.Header)
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
			go func() {
				_ = callsite.SendAll(func(message string) error { return send(stream, message) }, body)
				_ = stream.CloseSend()
			}()
		}
		messages := reader(stream)
		messages.OnClose = func() { _ = conn.Close() }
		_, err = messages.Read(nil)
		header, _ := stream.Header()
		if err != nil {
			_ = conn.Close()
		}
		return answer(header, messages, err), nil
	}
}

// reader reads the messages of a stream, from the client or the server.
func reader(stream interface{ RecvMsg(any) error }) *callsite.Messages {
	return &callsite.Messages{Receive: func() (string, error) {
		next := &text{}
		err := stream.RecvMsg(next)
		return next.GetValue(), err
	}}
}
