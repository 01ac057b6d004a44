package connectscope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/connectscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

func TestTheInterceptorCarriesTokens(t *testing.T) {
	for name, protocol := range protocols {
		for method := range methods {
			t.Run(name+method, func(t *testing.T) {
				routertest.RunRPC(t, withTokens(method, connectscope.ReadOnly(func(c connectscope.Call) bool {
					return c.Header.Get(routertest.Safe) != ""
				})), ask(method, protocol))
				routertest.RunUnscopedRPC(t, withTokens(method, connectscope.Unscoped(func(connectscope.Call) bool { return true })), ask(method, protocol))
			})
		}
	}
}

func withTokens(method string, opt connectscope.Option) middlewaretest.Framework {
	return middlewaretest.Framework{Lacks: lacks(method), Serve: func(t middlewaretest.T, site middlewaretest.Site) string {
		return serveWith(t, site, opt, connectscope.TokenHeader(routertest.Header))
	}}
}

func ask(method string, protocol connect.ClientOption) routertest.Ask {
	return func(t *testing.T, url string, brought map[string]string) (int, []string) {
		t.Helper()
		client, done := newClient(url+method, protocol)
		defer done()
		ctx, call := connect.NewClientContext(t.Context())
		for key, value := range brought {
			call.RequestHeader().Set(key, value)
		}
		err, status := end(ctx, client, method), 200
		if err != nil {
			status = failure(err).Status
		}
		tokens := call.ResponseTrailer().Values(routertest.Header)
		var coded *connect.Error
		if errors.As(err, &coded) && !slices.Equal(tokens, coded.Meta().Values(routertest.Header)) {
			t.Errorf("the trailer has the tokens %q, the error %v", tokens, coded.Meta())
		}
		return status, tokens
	}
}

// end makes a call, and returns how it ended.
func end(ctx context.Context, client *connect.Client[text, text], method string) error {
	var err error
	switch method {
	case placeMethod:
		_, err = client.CallUnary(ctx, request("order"))
	case uploadMethod:
		stream := client.CallClientStream(ctx)
		_ = stream.Send(message("order")) // its error is the answer's
		_, err = stream.CloseAndReceive()
	case watchMethod:
		stream, failed := client.CallServerStream(ctx, request("order"))
		if failed != nil {
			return failed
		}
		for stream.Receive() {
		}
		err = stream.Err()
		_ = stream.Close()
	default:
		stream := client.CallBidiStream(ctx)
		_ = stream.Send(message("order"))
		_ = stream.CloseRequest()
		for err == nil {
			_, err = stream.Receive()
		}
		_ = stream.CloseResponse()
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
	return err
}

// route gives the site a router, and returns it.
func (s *site) route() *routertest.Router {
	s.t.Helper()
	var r *routertest.Router
	r, s.db = routertest.New(s.t, s.fake)
	return r
}

// commit stores a row at once.
func (s *site) commit(ctx context.Context, row string) {
	s.t.Helper()
	s.store(ctx, row)
	if err := s.db.Commit(ctx); err != nil {
		s.t.Error(err)
	}
}

func wantToken(t *testing.T, trailer http.Header, want ...string) {
	t.Helper()
	if got := trailer.Values(routertest.Header); !slices.Equal(got, want) {
		t.Errorf("the trailer has the tokens %q, want %q", got, want)
	}
}

func TestATokenArrivesAlsoWhereTheHandlerHasSentHeadersItself(t *testing.T) {
	for code, token := range map[connect.Code]string{0: routertest.Token(2), connect.CodeNotFound: routertest.Token(1)} {
		s := newSite(t, connectscope.TokenHeader(routertest.Header))
		s.route()
		s.watch = watches(func(ctx context.Context, stream *connect.ServerStream[text]) error {
			s.commit(ctx, "early")
			stream.ResponseTrailer().Set("X-Trailer", "1")
			err := stream.Send(nil)
			s.store(ctx, "late")
			if code != 0 {
				return refuse(code, "no")
			}
			return err
		})
		ctx, call := connect.NewClientContext(t.Context())
		err := end(ctx, s.client(watchMethod), watchMethod)
		wantCode(t, err, code)
		wantToken(t, call.ResponseTrailer(), token)
		if call.ResponseTrailer().Get("X-Trailer") != "1" {
			t.Errorf("the client got the trailers %v", call.ResponseTrailer())
		}
	}
}

// Handlers share errors, which are not to be written to.
func TestATokenIsNotLeftInTheErrorOfAHandler(t *testing.T) {
	shared := connect.NewError(connect.CodeNotFound, errors.New("no"))
	shared.Meta().Set("X-Meta", "1")
	s := newSite(t, connectscope.TokenHeader(routertest.Header))
	s.route()
	s.place = func(ctx context.Context, _ *connect.Request[text]) (*connect.Response[text], error) {
		s.commit(ctx, "row")
		return nil, shared
	}
	_, err := s.send()
	var got *connect.Error
	if !errors.As(err, &got) || got.Meta().Get("X-Meta") != "1" {
		t.Fatalf("the client got %v", err)
	}
	wantToken(t, got.Meta(), routertest.Token(1))
	wantToken(t, shared.Meta())
}

func TestAStreamThatWasRefusedItsFirstMessageHasTheTokenOfWhatWasCommittedBefore(t *testing.T) {
	s := newSite(t, connectscope.TokenHeader(routertest.Header))
	s.route()
	s.watch = watches(func(ctx context.Context, stream *connect.ServerStream[text]) error {
		s.commit(ctx, "early")
		rows := s.query(ctx)
		return errors.Join(stream.Send(message("too soon")), rows.Close())
	})
	ctx, call := connect.NewClientContext(t.Context())
	wantCode(t, end(ctx, s.client(watchMethod), watchMethod), connect.CodeInternal)
	wantToken(t, call.ResponseTrailer(), routertest.Token(1))
}

// As a unary function is called without a server.
func TestATokenWithoutATrailerIsDropped(t *testing.T) {
	s := newSite(t)
	s.route()
	_, err := around(t.Context(), func(ctx context.Context, _ connect.AnyRequest) (connect.AnyResponse, error) {
		s.store(ctx, "row")
		return response("stored"), nil
	}, connectscope.TokenHeader(routertest.Header))
	if err != nil {
		t.Error(err)
	}
}

func TestWithoutTheOptionNobodyTakesOrGivesTokens(t *testing.T) {
	s := newSite(t, connectscope.ReadOnly(func(c connectscope.Call) bool { return c.Spec.Procedure == watchMethod }))
	router := s.route()
	s.place = func(ctx context.Context, _ *connect.Request[text]) (*connect.Response[text], error) {
		s.commit(ctx, "row")
		if token := dbscope.WritesToken(ctx); token != "" {
			t.Errorf("there is the token %q", token)
		}
		return response(""), nil
	}
	s.watch = watches(func(ctx context.Context, _ *connect.ServerStream[text]) error { return s.query(ctx).Close() })
	for _, method := range []string{placeMethod, watchMethod} {
		ctx, call := connect.NewClientContext(t.Context())
		call.RequestHeader().Set(routertest.Header, routertest.Token(1))
		if err := end(ctx, s.client(method), method); err != nil {
			t.Error(err)
		}
		wantToken(t, call.ResponseTrailer())
	}
	if hosts := router.Reads(); !slices.Equal(hosts, []string{"replica"}) {
		t.Errorf("it read on %q", hosts)
	}
}

func TestATokenNeedsAPossibleName(t *testing.T) {
	for _, name := range []string{"", "X Writes", "X-Writes:", "ä", "Writes-Bin", "Grpc-Writes", "connect-writes"} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.HasPrefix(fmt.Sprint(v), "dbscope: ") {
					t.Errorf("with %q it panicked with %v", name, v)
				}
			}()
			connectscope.Interceptor(connectscope.TokenHeader(name))
		}()
	}
}

func TestTheClientOfTheExampleReadsWhatItWrote(t *testing.T) {
	for name, protocol := range protocols {
		s := newSite(t, connectscope.TokenHeader("X-Writes"))
		router := s.route()
		s.place = func(ctx context.Context, order *connect.Request[text]) (*connect.Response[text], error) {
			switch order.Msg.GetValue() {
			case "read":
				return response(""), dbscope.Run(ctx, func(ctx context.Context) error { return s.query(ctx).Close() }, dbscope.ReadOnly())
			case "fail":
				s.commit(ctx, "row")
				return nil, refuse(connect.CodeNotFound, "no")
			}
			s.store(ctx, "row")
			return response(""), nil
		}
		for _, write := range []string{"store", "fail"} {
			client := s.client(placeMethod, protocol, connect.WithInterceptors(new(lastToken).interceptor()))
			for _, what := range []string{"read", write, "read", "read"} {
				if _, err := client.CallUnary(t.Context(), request(what)); (err != nil) != (what == "fail") {
					t.Errorf("%s: %q returned %v", name, what, err)
				}
			}
			if hosts := router.Reads(); !slices.Equal(hosts, []string{"replica", "primary", "primary"}) {
				t.Errorf("%s: with %q it read on %q", name, write, hosts)
			}
		}
	}
}
