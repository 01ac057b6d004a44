package connectscope_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope/internal/callsite"
	"github.com/dbscope/dbscope/middleware/connectscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

type abilities = map[middlewaretest.Ability]string

const (
	once  = "there is one response"
	there = "the one request is there before the handler is called"
	stays = "a stream's headers are set on the connection, and go out with errors as well"
)

// methods are those of all kinds, with what they lack.
var methods = map[string]abilities{
	placeMethod: {
		middlewaretest.Flush: once, middlewaretest.Receive: there,
		middlewaretest.ClientTimeout: "the handler of a unary call does not wait for its client",
	},
	watchMethod:  {middlewaretest.Headers: stays, middlewaretest.Receive: there},
	uploadMethod: {middlewaretest.Headers: stays, middlewaretest.Flush: once},
	chatMethod:   {middlewaretest.Headers: stays},
}

// lacks is what Connect lacks, and a method.
func lacks(method string) abilities {
	lacks := abilities{
		middlewaretest.SetContext: "a handler's context is its own",
		middlewaretest.Hijack:     "a connection is that of many calls",
		middlewaretest.BufferBody: "there is no such option",
		middlewaretest.Retry:      "there is no such option",
	}
	maps.Copy(lacks, methods[method])
	return lacks
}

func TestTheInterceptorConforms(t *testing.T) {
	for name, protocol := range protocols {
		for method := range methods {
			t.Run(name+method, func(t *testing.T) {
				middlewaretest.Run(t, middlewaretest.Framework{Serve: serve, Call: call(method, protocol), Lacks: lacks(method)})
			})
		}
	}
}

// protocols are those that the server speaks to anybody who comes.
var protocols = map[string]connect.ClientOption{
	"Connect":  connect.WithClientOptions(),
	"gRPC":     connect.WithGRPC(),
	"gRPC-Web": connect.WithGRPCWeb(),
}

func serve(t middlewaretest.T, site middlewaretest.Site) string { return serveWith(t, site) }

// serveWith answers methods of all kinds.
func serveWith(t middlewaretest.T, site middlewaretest.Site, opts ...connectscope.Option) string {
	opts = append(options(site), opts...)
	once := func(ctx context.Context, in io.Reader) (*connect.Response[text], error) {
		header := http.Header{}
		words, err := callsite.New(ctx, in, header.Set, nil).Answer(site.Handler, refusal)
		answer := response(words)
		maps.Copy(answer.Header(), header)
		return answer, err
	}
	service := &orders{
		place: func(ctx context.Context, r *connect.Request[text]) (*connect.Response[text], error) {
			return once(ctx, strings.NewReader(r.Msg.GetValue()))
		},
		watch: func(ctx context.Context, r *connect.Request[text], stream *connect.ServerStream[text]) error {
			x := callsite.New(ctx, strings.NewReader(r.Msg.GetValue()), stream.ResponseHeader().Set, texts(stream.Send))
			_, err := x.Answer(site.Handler, refusal)
			return err
		},
		upload: func(ctx context.Context, stream *connect.ClientStream[text]) (*connect.Response[text], error) {
			return once(ctx, &callsite.Messages{Receive: next(stream)})
		},
		chat: func(ctx context.Context, stream *connect.BidiStream[text, text]) error {
			in := &callsite.Messages{Receive: words(stream.Receive)}
			_, err := callsite.New(ctx, in, stream.ResponseHeader().Set, texts(stream.Send)).Answer(site.Handler, refusal)
			return err
		},
	}
	h := service.handler(
		connect.WithRecover(func(_ context.Context, _ connect.Spec, _ http.Header, v any) error {
			site.Recovered(v)
			return refuse(connect.CodeInternal, "recovered")
		}),
		connect.WithInterceptors(connectscope.Interceptor(opts...)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if site.Context != nil {
			r = r.WithContext(site.Context(r.Context()))
		}
		h.ServeHTTP(w, r)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true) // for gRPC
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func options(site middlewaretest.Site) []connectscope.Option {
	all := func(want bool) func(connectscope.Call) bool { return func(connectscope.Call) bool { return want } }
	opts := []connectscope.Option{
		connectscope.OnError(func(_ connectscope.Call, err error) { site.OnError(err) }),
		connectscope.ReadOnly(all(site.Options.ReadOnly)), connectscope.Unscoped(all(site.Options.Unscoped)),
	}
	if limit := site.Options.ClientTimeout; limit != 0 {
		opts = append(opts, connectscope.ClientTimeout(limit))
	}
	if name := site.Options.TokenHeader; name != "" {
		opts = append(opts, connectscope.TokenHeader(name))
	}
	return opts
}

func refusal(code int, words string) error { return refuse(connect.Code(code), words) }

// texts sends messages that are strings.
func texts(send func(*text) error) func(string) error {
	return func(words string) error { return send(message(words)) }
}

// words receives them.
func words(receive func() (*text, error)) func() (string, error) {
	return func() (string, error) {
		next, err := receive()
		return next.GetValue(), err
	}
}

// failure is an error as an answer.
func failure(err error) *middlewaretest.Answer {
	a := &middlewaretest.Answer{Status: callsite.Status(int(connect.CodeOf(err))), Header: func(string) string { return "" }}
	text := err.Error()
	var coded *connect.Error
	if errors.As(err, &coded) {
		text, a.Header = coded.Message(), coded.Meta().Get
	}
	a.Body = io.NopCloser(strings.NewReader(text))
	return a
}

// newClient returns a client that keeps no connection, so that none is left
// when the server stops.
func newClient(url string, protocol connect.ClientOption) (client *connect.Client[text, text], close func()) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return connect.NewClient[text, text](&http.Client{Transport: transport}, url, protocol), transport.CloseIdleConnections
}

// call calls a method in its way.
func call(method string, protocol connect.ClientOption) func(context.Context, string, io.Reader) (*middlewaretest.Answer, error) {
	return func(ctx context.Context, url string, body io.Reader) (*middlewaretest.Answer, error) {
		client, done := newClient(url+method, protocol)
		switch method {
		case placeMethod:
			defer done()
			words, _ := io.ReadAll(body)
			return whole(client.CallUnary(ctx, request(string(words))))
		case uploadMethod:
			defer done()
			stream := client.CallClientStream(ctx)
			_ = callsite.SendAll(texts(stream.Send), body) // its error is the answer's
			return whole(stream.CloseAndReceive())
		case watchMethod:
			words, _ := io.ReadAll(body)
			stream, err := client.CallServerStream(ctx, request(string(words)))
			if err != nil {
				done()
				return failure(err), nil
			}
			return streamed(&callsite.Messages{
				Receive: next(stream),
				OnClose: func() { _ = stream.Close(); done() }, // which returns the stream's error
			}, stream.ResponseHeader)
		}
		stream := client.CallBidiStream(ctx)
		_ = stream.Send(nil) // the request's headers, for it to begin
		go func() {
			_ = callsite.SendAll(texts(stream.Send), body)
			_ = stream.CloseRequest()
		}()
		return streamed(&callsite.Messages{
			Receive: words(stream.Receive),
			OnClose: func() { _ = stream.CloseResponse(); done() },
		}, stream.ResponseHeader)
	}
}

// whole is the answer that there is one response.
func whole(answer *connect.Response[text], err error) (*middlewaretest.Answer, error) {
	if err != nil {
		return failure(err), nil
	}
	return &middlewaretest.Answer{
		Status: callsite.HeaderStatus(answer.Header().Get), Header: answer.Header().Get,
		Body: io.NopCloser(strings.NewReader(answer.Msg.GetValue())),
	}, nil
}

// streamed is the answer that begins with the first message.
func streamed(m *callsite.Messages, header func() http.Header) (*middlewaretest.Answer, error) {
	if _, err := m.Read(nil); err != nil {
		_ = m.Close()
		return failure(err), nil
	}
	return &middlewaretest.Answer{Status: callsite.HeaderStatus(header().Get), Header: header().Get, Body: m}, nil
}

// inParts is a stream that has methods for the parts of what it receives.
type inParts interface {
	Receive() bool
	Msg() *text
	Err() error
}

// next receives from such a stream.
func next(stream inParts) func() (string, error) {
	return func() (string, error) {
		if !stream.Receive() {
			return "", cmp.Or(stream.Err(), io.EOF)
		}
		return stream.Msg().GetValue(), nil
	}
}
