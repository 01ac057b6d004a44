package connectscope_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

// stores is a handler that stores a row and then answers, or refuses with err.
func (s *site) stores(err error) func(context.Context, *connect.Request[text]) (*connect.Response[text], error) {
	return func(ctx context.Context, order *connect.Request[text]) (*connect.Response[text], error) {
		s.store(ctx, order.Msg.GetValue())
		if err != nil {
			return nil, err
		}
		return response("stored"), nil
	}
}

// failures are commits that fail, and what the client gets.
var failures = map[string]struct {
	fault drivertest.Fault
	code  connect.Code
}{
	"that is not worth another call": {drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack}, connect.CodeInternal},
	"for a conflict": {
		drivertest.Fault{Err: fmt.Errorf("%w: %w", errInjected, drivertest.ErrTransient), Outcome: driver.RolledBack}, connect.CodeAborted,
	},
	"whose outcome is unknown": {
		drivertest.Fault{Err: fmt.Errorf("%w: %w", errInjected, drivertest.ErrTransient), Outcome: driver.Unknown}, connect.CodeInternal,
	},
}

func TestACommitThatFails(t *testing.T) {
	for name, c := range failures {
		for protocol, option := range protocols {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				s := newSite(t)
				s.place = s.stores(nil)
				s.fake.Inject("commit", c.fault)
				answer, err := s.send(option)
				wantCode(t, err, c.code)
				if answer != nil {
					t.Errorf("the client got %v", answer.Msg)
				}
				s.wantRows()
				s.wantErrors(errInjected)
			})
		}
	}
}

// around calls a unary function through the interceptor, without a server.
func around(ctx context.Context, next connect.UnaryFunc, opts ...connectscope.Option) (connect.AnyResponse, error) {
	return connectscope.Interceptor(opts...).WrapUnary(next)(ctx, request("order"))
}

func TestInterceptorsOutsideSeeWhatWentWrongAndCannotGiveItAway(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	_, err := around(t.Context(), func(ctx context.Context, _ connect.AnyRequest) (connect.AnyResponse, error) {
		return response("stored"), drivertest.Exec(ctx, db, "row")
	}, connectscope.OnError(func(connectscope.Call, error) {}))
	if !errors.Is(err, errInjected) {
		t.Errorf("outside the error is %v", err)
	}
	wantCode(t, fmt.Errorf("wrapped: %w", err), connect.CodeInternal)
}

func TestTheErrorOfAHandlerGoesOnAsItIs(t *testing.T) {
	detailed := connect.NewError(connect.CodeResourceExhausted, errors.New("sold out"))
	detail, err := connect.NewErrorDetail(message("tea"))
	if err != nil {
		t.Fatal(err)
	}
	detailed.AddDetail(detail)
	detailed.Meta().Set("X-Meta", "1")
	s := newSite(t)
	s.place = s.stores(detailed)
	_, err = s.send()
	var got *connect.Error
	if !errors.As(err, &got) || got.Code() != detailed.Code() || got.Message() != "sold out" ||
		len(got.Details()) != 1 || got.Meta().Get("X-Meta") != "1" {
		t.Errorf("the client got %v", err)
	}
	s.wantRows()
	s.wantErrors()
}

func TestThePolicyIsAskedWithTheCodeThatTheServerSends(t *testing.T) {
	for _, c := range []struct {
		err  error
		code connect.Code
	}{
		{nil, 0},
		{refuse(connect.CodeNotFound, "no"), connect.CodeNotFound},
		{fmt.Errorf("wrapped: %w", refuse(connect.CodeNotFound, "no")), connect.CodeNotFound},
		{errors.New("no"), connect.CodeInternal},
		{context.Canceled, connect.CodeCanceled},
		{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), connect.CodeDeadlineExceeded},
		{refuse(0, "not an error"), connect.CodeInternal},
	} {
		for _, commit := range []bool{true, false} {
			var asked []connect.Code
			s := newSite(t, connectscope.CommitWhen(func(call connectscope.Call, code connect.Code) bool {
				if call.Spec.Procedure != placeMethod || call.Header.Get("Content-Type") == "" || call.Peer.Addr == "" {
					t.Errorf("the call is %v", call)
				}
				asked = append(asked, code)
				return commit
			}))
			s.place = s.stores(c.err)
			_, _ = s.send()
			if !slices.Equal(asked, []connect.Code{c.code}) {
				t.Errorf("for %v the policy was asked about %v", c.err, asked)
			}
			if commit {
				s.wantRows("order")
			} else {
				s.wantRows()
			}
		}
	}
}

func TestEveryErrorRollsBackByDefault(t *testing.T) {
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		s := newSite(t)
		s.place = s.stores(refuse(code, "so it is"))
		_, err := s.send()
		wantCode(t, err, code)
		s.wantRows()
		s.wantErrors()
	}
}

func TestHeadersAndTrailersOfAnAnswerArrive(t *testing.T) {
	s := newSite(t)
	s.place = func(ctx context.Context, order *connect.Request[text]) (*connect.Response[text], error) {
		s.store(ctx, order.Msg.GetValue())
		answer := response("stored")
		answer.Header().Set("X-Header", "1")
		answer.Trailer().Set("X-Trailer", "2")
		info, _ := connect.CallInfoForHandlerContext(ctx)
		info.ResponseHeader().Set("X-Info", "3")
		return answer, nil
	}
	answer, err := s.send()
	if err != nil {
		t.Fatal(err)
	}
	if h := answer.Header(); h.Get("X-Header") != "1" || h.Get("X-Info") != "3" || answer.Trailer().Get("X-Trailer") != "2" {
		t.Errorf("the client got %v and %v", h, answer.Trailer())
	}
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	_, err = s.send()
	var failed *connect.Error
	if !errors.As(err, &failed) || failed.Meta().Get("X-Header") != "" {
		t.Errorf("the client got the headers of what was not sent: %v", err)
	}
	s.wantRows("order")
}

func TestOptionsReachTheScope(t *testing.T) {
	s := newSite(t,
		connectscope.ReadOnly(func(c connectscope.Call) bool { return c.Spec.Procedure == placeMethod }),
		connectscope.ScopeOptions(dbscope.Isolation(sql.LevelSerializable)),
		connectscope.ScopeOptions(dbscope.Deferrable()))
	s.place = s.stores(nil)
	if _, err := s.send(); err != nil {
		t.Error(err)
	}
	if log := strings.Join(s.fake.Log(), ", "); !strings.Contains(log, "begin read-onlySerializable") {
		t.Errorf("the database saw %s", log)
	}
}

// A server that calls another one uses one interceptor for both sides.
func TestClientsAreLeftAlone(t *testing.T) {
	s := newSite(t)
	s.place, s.watch = s.stores(nil), func(context.Context, *connect.Request[text], *connect.ServerStream[text]) error { return nil }
	none := connect.WithInterceptors(connectscope.Interceptor(), inside(func(ctx context.Context) {
		if _, scoped := dbscope.FromContext(ctx); scoped {
			t.Error("a client has a scope")
		}
	}))
	if _, err := s.send(none); err != nil {
		t.Error(err)
	}
	stream, err := s.client(watchMethod, none).CallServerStream(t.Context(), request(""))
	if err != nil {
		t.Fatal(err)
	}
	if stream.Receive() || stream.Err() != nil {
		t.Errorf("the stream ended with %v", stream.Err())
	}
	_ = stream.Close()
}

// inside is an interceptor that looks at a client's context.
type inside func(context.Context)

func (look inside) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		look(ctx)
		return next(ctx, r)
	}
}

func (look inside) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		look(ctx)
		return next(ctx, spec)
	}
}

func (inside) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func TestWithoutOnErrorAFailedCommitIsLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	h := connect.NewUnaryHandler(placeMethod, func(ctx context.Context, _ *connect.Request[text]) (*connect.Response[text], error) {
		return response("stored"), drivertest.Exec(ctx, db, "row")
	}, connect.WithInterceptors(connectscope.Interceptor()))
	client := connect.NewClient[text, text](inProcess{h}, "http://server"+placeMethod)
	_, err := client.CallUnary(t.Context(), request(""))
	wantCode(t, err, connect.CodeInternal)
	if got := log.String(); !strings.Contains(got, errInjected.Error()) || !strings.Contains(got, placeMethod) {
		t.Errorf("the log is %s", got)
	}
}

// inProcess is an HTTP client of a handler.
type inProcess struct{ http.Handler }

func (h inProcess) Do(r *http.Request) (*http.Response, error) { return serveOnce(h, r), nil }
