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
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"

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
		x := &exchange{ctx: ctx, in: in, status: 200, header: http.Header{}}
		if err := x.outcome(site.Handler(x)); err != nil {
			return nil, err
		}
		answer := response(x.body.String())
		maps.Copy(answer.Header(), x.header)
		answer.Header().Set("X-Status", strconv.Itoa(x.status))
		return answer, nil
	}
	streams := func(x *exchange) error {
		if err := x.outcome(site.Handler(x)); err != nil {
			return err
		}
		return x.Flush()
	}
	service := &orders{
		place: func(ctx context.Context, r *connect.Request[text]) (*connect.Response[text], error) {
			return once(ctx, strings.NewReader(r.Msg.GetValue()))
		},
		watch: func(ctx context.Context, r *connect.Request[text], stream *connect.ServerStream[text]) error {
			in := strings.NewReader(r.Msg.GetValue())
			return streams(&exchange{ctx: ctx, in: in, status: 200, header: stream.ResponseHeader(), stream: stream})
		},
		upload: func(ctx context.Context, stream *connect.ClientStream[text]) (*connect.Response[text], error) {
			return once(ctx, &messages{receive: func() (*text, error) { return next(stream) }})
		},
		chat: func(ctx context.Context, stream *connect.BidiStream[text, text]) error {
			in := &messages{receive: stream.Receive}
			return streams(&exchange{ctx: ctx, in: in, status: 200, header: stream.ResponseHeader(), stream: stream})
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

// exchange turns statuses of HTTP into codes. What is written is one message,
// or the text of an error.
type exchange struct {
	ctx     context.Context
	in      io.Reader
	status  int
	header  http.Header
	body    strings.Builder
	stream  interface{ Send(*text) error } // nil where there is one answer
	flushed bool
}

func (x *exchange) Context() context.Context    { return x.ctx }
func (x *exchange) Body() io.Reader             { return x.in }
func (x *exchange) Status(code int)             { x.status = code }
func (x *exchange) SetHeader(key, value string) { x.header.Set(key, value) }

func (x *exchange) Write(body string) error {
	if x.flushed {
		return x.stream.Send(message(body))
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
	x.SetHeader("X-Status", strconv.Itoa(x.status))
	return x.stream.Send(message(x.body.String()))
}

func (x *exchange) outcome(err error) error {
	for code, as := range statuses {
		if err == nil && as == x.status {
			err = refuse(code, x.body.String())
		}
	}
	return err
}

var statuses = map[connect.Code]int{
	connect.CodeInvalidArgument: 400,
	connect.CodeNotFound:        404,
	connect.CodeAlreadyExists:   409,
	connect.CodeInternal:        500,
	connect.CodeUnavailable:     503,

	connect.CodeDeadlineExceeded: 408,
}

// failure is an error as an answer.
func failure(err error) *middlewaretest.Answer {
	a := &middlewaretest.Answer{Status: 500, Header: func(string) string { return "" }}
	text := err.Error()
	var coded *connect.Error
	if errors.As(err, &coded) {
		text, a.Header = coded.Message(), coded.Meta().Get
	}
	if as, ok := statuses[connect.CodeOf(err)]; ok {
		a.Status = as
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
			_ = sendAll(stream.Send, body) // its error is the answer's
			return whole(stream.CloseAndReceive())
		case watchMethod:
			words, _ := io.ReadAll(body)
			stream, err := client.CallServerStream(ctx, request(string(words)))
			if err != nil {
				done()
				return failure(err), nil
			}
			return streamed(&messages{
				receive: func() (*text, error) { return next(stream) },
				close:   func() { _ = stream.Close(); done() }, // which returns the stream's error
			}, stream.ResponseHeader)
		}
		stream := client.CallBidiStream(ctx)
		_ = stream.Send(nil) // the request's headers, for it to begin
		go func() {
			_ = sendAll(stream.Send, body)
			_ = stream.CloseRequest()
		}()
		return streamed(&messages{receive: stream.Receive, close: func() { _ = stream.CloseResponse(); done() }}, stream.ResponseHeader)
	}
}

// sendAll sends what comes as messages.
func sendAll(send func(*text) error, body io.Reader) error {
	part := make([]byte, 1000)
	for {
		n, err := body.Read(part)
		if n > 0 {
			if err := send(message(string(part[:n]))); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// whole is the answer that there is one response.
func whole(answer *connect.Response[text], err error) (*middlewaretest.Answer, error) {
	if err != nil {
		return failure(err), nil
	}
	status, err := strconv.Atoi(answer.Header().Get("X-Status"))
	return &middlewaretest.Answer{
		Status: status, Header: answer.Header().Get,
		Body: io.NopCloser(strings.NewReader(answer.Msg.GetValue())),
	}, err
}

// streamed is the answer that begins with the first message.
func streamed(m *messages, header func() http.Header) (*middlewaretest.Answer, error) {
	if _, err := m.Read(nil); err != nil {
		_ = m.Close()
		return failure(err), nil
	}
	status, err := strconv.Atoi(header().Get("X-Status"))
	return &middlewaretest.Answer{Status: status, Header: header().Get, Body: m}, err
}

// messages reads the messages of a stream, from the client or the server.
type messages struct {
	receive func() (*text, error)
	close   func()
	current *strings.Reader // nil before the first
}

// inParts is a stream that has methods for the parts of what it receives.
type inParts interface {
	Receive() bool
	Msg() *text
	Err() error
}

func next(stream inParts) (*text, error) {
	if !stream.Receive() {
		return nil, cmp.Or(stream.Err(), io.EOF)
	}
	return stream.Msg(), nil
}

// Read of nothing waits for a message.
func (m *messages) Read(p []byte) (int, error) {
	for m.current == nil || m.current.Len() == 0 && len(p) > 0 {
		next, err := m.receive()
		if errors.Is(err, io.EOF) { // which Connect wraps
			return 0, io.EOF
		} else if err != nil {
			return 0, err
		}
		m.current = strings.NewReader(next.GetValue())
	}
	if len(p) == 0 {
		return 0, nil
	}
	return m.current.Read(p)
}

func (m *messages) Close() error {
	m.close()
	return nil
}
