package connectscope_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type text = wrapperspb.StringValue

func message(s string) *text                       { return wrapperspb.String(s) }
func request(s string) *connect.Request[text]      { return connect.NewRequest(message(s)) }
func response(s string) *connect.Response[text]    { return connect.NewResponse(message(s)) }
func refuse(code connect.Code, words string) error { return connect.NewError(code, errors.New(words)) }

// orders is a service as the generator would make it, with a method of each
// kind.
type orders struct {
	place  func(context.Context, *connect.Request[text]) (*connect.Response[text], error)
	watch  func(context.Context, *connect.Request[text], *connect.ServerStream[text]) error
	upload func(context.Context, *connect.ClientStream[text]) (*connect.Response[text], error)
	chat   func(context.Context, *connect.BidiStream[text, text]) error
}

const (
	placeMethod  = "/test.Orders/Place"
	watchMethod  = "/test.Orders/Watch"
	uploadMethod = "/test.Orders/Upload"
	chatMethod   = "/test.Orders/Chat"
)

// handler calls the functions that orders has when a call comes.
func (o *orders) handler(opts ...connect.HandlerOption) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(placeMethod, connect.NewUnaryHandler(placeMethod,
		func(ctx context.Context, r *connect.Request[text]) (*connect.Response[text], error) {
			return o.place(ctx, r)
		}, opts...))
	mux.Handle(watchMethod, connect.NewServerStreamHandler(watchMethod,
		func(ctx context.Context, r *connect.Request[text], s *connect.ServerStream[text]) error {
			return o.watch(ctx, r, s)
		}, opts...))
	mux.Handle(uploadMethod, connect.NewClientStreamHandler(uploadMethod,
		func(ctx context.Context, s *connect.ClientStream[text]) (*connect.Response[text], error) {
			return o.upload(ctx, s)
		}, opts...))
	mux.Handle(chatMethod, connect.NewBidiStreamHandler(chatMethod,
		func(ctx context.Context, s *connect.BidiStream[text, text]) error { return o.chat(ctx, s) }, opts...))
	return mux
}

var errInjected = errors.New("driver: secret detail")

// site is a server with the interceptor over a fake database.
type site struct {
	*orders
	*httptest.Server
	t    testing.TB
	fake *drivertest.Fake
	db   *dbscope.DB[*drivertest.Tx]

	ended     chan struct{} // receives when the handler of the framework has returned
	recovered chan any      // receives what a recovery outside got

	mu   sync.Mutex
	errs []error
}

// newSite starts a server whose handlers the test sets.
func newSite(t testing.TB, opts ...connectscope.Option) *site {
	t.Helper()
	fake := drivertest.NewFake()
	s := &site{
		orders: &orders{}, t: t, fake: fake, db: fake.DB(),
		ended: make(chan struct{}, 100), recovered: make(chan any, 100),
	}
	opts = append([]connectscope.Option{connectscope.OnError(func(_ connectscope.Call, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	})}, opts...)
	h := s.handler(
		connect.WithRecover(func(_ context.Context, _ connect.Spec, _ http.Header, v any) error {
			s.recovered <- v
			return refuse(connect.CodeDataLoss, "recovered")
		}),
		connect.WithInterceptors(connectscope.Interceptor(opts...)))
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { s.ended <- struct{}{} }()
		h.ServeHTTP(w, r)
	}))
	s.EnableHTTP2 = true // for streams in both directions
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *site) client(method string, opts ...connect.ClientOption) *connect.Client[text, text] {
	return connect.NewClient[text, text](s.Client(), s.URL+method, opts...)
}

// send calls the unary method.
func (s *site) send(opts ...connect.ClientOption) (*connect.Response[text], error) {
	s.t.Helper()
	answer, err := s.client(placeMethod, opts...).CallUnary(s.t.Context(), request("order"))
	<-s.ended
	return answer, err
}

// receive calls the server-streaming method, and returns all messages and how
// the stream ended.
func (s *site) receive() (messages []string, err error) {
	s.t.Helper()
	stream, err := s.client(watchMethod).CallServerStream(s.t.Context(), request("order"))
	if err != nil {
		s.t.Fatal(err)
	}
	for stream.Receive() {
		messages = append(messages, stream.Msg().GetValue())
	}
	err = stream.Err()
	_ = stream.Close()
	<-s.ended
	return messages, err
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
	if n := s.fake.Open(); n != 0 {
		s.t.Errorf("%d connections are not back", n)
	}
}

// wantCode checks the client's error, which never tells what the database
// said; 0 is success.
func wantCode(t testing.TB, err error, want connect.Code) {
	t.Helper()
	if err == nil && want == 0 {
		return
	}
	if err == nil || connect.CodeOf(err) != want {
		t.Errorf("the client got %v, want %v", err, want)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the client got %v", err)
	}
}

func wantMessages(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the client got the messages %q, want %q", got, want)
	}
}
