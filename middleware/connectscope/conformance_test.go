package connectscope_test

import (
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

func TestTheInterceptorConformsForUnaryCalls(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			middlewaretest.Run(t, middlewaretest.Framework{
				Serve: serve,
				Call:  callUnary(protocol),
				Lacks: map[middlewaretest.Ability]string{middlewaretest.Flush: "a unary call has one response"},
			})
		})
	}
}

func TestTheInterceptorConformsForStreams(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			middlewaretest.Run(t, middlewaretest.Framework{
				Serve: serve,
				Call:  callStream(protocol),
				Lacks: map[middlewaretest.Ability]string{
					middlewaretest.Headers: "a stream's headers are set on the connection, and go out with errors as well",
				},
			})
		})
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
	opts = append(opts, connectscope.OnError(func(_ connectscope.Call, err error) { site.OnError(err) }))
	service := &orders{
		place: func(ctx context.Context, _ *connect.Request[text]) (*connect.Response[text], error) {
			x := &exchange{ctx: ctx, status: 200, header: http.Header{}}
			if err := x.outcome(site.Handler(x)); err != nil {
				return nil, err
			}
			answer := response(x.body.String())
			maps.Copy(answer.Header(), x.header)
			answer.Header().Set("X-Status", strconv.Itoa(x.status))
			return answer, nil
		},
		watch: func(ctx context.Context, _ *connect.Request[text], stream *connect.ServerStream[text]) error {
			x := &exchange{ctx: ctx, status: 200, header: stream.ResponseHeader(), stream: stream}
			if err := x.outcome(site.Handler(x)); err != nil || x.flushed {
				return err
			}
			return x.Flush()
		},
		upload: func(ctx context.Context, _ *connect.ClientStream[text]) (*connect.Response[text], error) {
			x := &exchange{ctx: ctx, status: 200, header: http.Header{}}
			err := x.outcome(site.Handler(x))
			return response(x.body.String()), err
		},
		chat: func(ctx context.Context, stream *connect.BidiStream[text, text]) error {
			x := &exchange{ctx: ctx, status: 200, header: stream.ResponseHeader(), stream: stream}
			return x.outcome(site.Handler(x))
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

// exchange turns statuses of HTTP into codes. What is written is one message,
// or the text of an error.
type exchange struct {
	ctx     context.Context
	status  int
	header  http.Header
	body    strings.Builder
	stream  interface{ Send(*text) error } // nil where there is one answer
	flushed bool
}

func (x *exchange) Context() context.Context    { return x.ctx }
func (x *exchange) Status(code int)             { x.status = code }
func (x *exchange) SetHeader(key, value string) { x.header.Set(key, value) }

func (x *exchange) Write(body string) error {
	if x.flushed {
		return x.stream.Send(message(body))
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

type caller = func(ctx context.Context, url string) (*middlewaretest.Answer, error)

func callUnary(protocol connect.ClientOption) caller {
	return func(ctx context.Context, url string) (*middlewaretest.Answer, error) {
		client, done := newClient(url+placeMethod, protocol)
		defer done()
		answer, err := client.CallUnary(ctx, request(""))
		if err != nil {
			return failure(err), nil
		}
		status, err := strconv.Atoi(answer.Header().Get("X-Status"))
		return &middlewaretest.Answer{
			Status: status, Header: answer.Header().Get,
			Body: io.NopCloser(strings.NewReader(answer.Msg.GetValue())),
		}, err
	}
}

func callStream(protocol connect.ClientOption) caller {
	return func(ctx context.Context, url string) (*middlewaretest.Answer, error) {
		client, done := newClient(url+watchMethod, protocol)
		stream, err := client.CallServerStream(ctx, request(""))
		if err == nil && !stream.Receive() {
			err = errors.Join(stream.Err(), stream.Close())
		}
		if err != nil {
			done()
			return failure(err), nil
		}
		status, err := strconv.Atoi(stream.ResponseHeader().Get("X-Status"))
		first := strings.NewReader(stream.Msg().GetValue())
		return &middlewaretest.Answer{Status: status, Header: stream.ResponseHeader().Get, Body: &messages{stream, first, done}}, err
	}
}

// messages reads the messages of a stream. Its error came too late to be that
// of the answer.
type messages struct {
	stream  *connect.ServerStreamForClient[text]
	current *strings.Reader
	done    func()
}

func (m *messages) Read(p []byte) (int, error) {
	for m.current.Len() == 0 {
		if !m.stream.Receive() {
			return 0, io.EOF
		}
		m.current = strings.NewReader(m.stream.Msg().GetValue())
	}
	return m.current.Read(p)
}

func (m *messages) Close() error {
	_ = m.stream.Close() // which returns the stream's error
	m.done()
	return nil
}
