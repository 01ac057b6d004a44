package httpscope_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

var errInjected = errors.New("driver: secret detail")

// site is a server with the middleware over a fake database.
type site struct {
	*httptest.Server
	t    testing.TB
	fake *drivertest.Fake
	db   *dbscope.DB[*drivertest.Tx]

	ended chan struct{} // receives when the middleware has returned

	mu   sync.Mutex
	errs []error
}

func newSite(t testing.TB, handler func(*site, http.ResponseWriter, *http.Request), opts ...httpscope.Option) *site {
	t.Helper()
	s := prepare(t)
	scoped := s.wrap(func(w http.ResponseWriter, r *http.Request) { handler(s, w, r) }, opts...)
	s.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { s.ended <- struct{}{} }()
		scoped.ServeHTTP(w, r)
	}), false)
	return s
}

// prepare makes a site without a server.
func prepare(t testing.TB) *site {
	fake := drivertest.NewFake()
	return &site{t: t, fake: fake, db: fake.DB(), ended: make(chan struct{}, 100)}
}

func (s *site) wrap(h http.HandlerFunc, opts ...httpscope.Option) http.Handler {
	opts = append([]httpscope.Option{httpscope.OnError(func(_ *http.Request, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	})}, opts...)
	return httpscope.Middleware(opts...)(h)
}

func (s *site) store(ctx context.Context, row string) {
	s.t.Helper()
	tx, err := s.db.Session(ctx)
	if err == nil {
		err = tx.Exec(ctx, row)
	}
	if err != nil {
		s.t.Errorf("storing %q: %v", row, err)
	}
}

// query opens rows and leaves them open.
func (s *site) query(ctx context.Context) *drivertest.Rows {
	s.t.Helper()
	tx, err := s.db.Session(ctx)
	if err != nil {
		s.t.Error(err)
		panic(http.ErrAbortHandler)
	}
	rows, err := tx.Query(ctx, "all")
	if err != nil {
		s.t.Error(err)
		panic(http.ErrAbortHandler)
	}
	return rows
}

func (s *site) send(method string) (status int, body string) {
	s.t.Helper()
	resp := s.response(method)
	return resp.StatusCode, s.read(resp)
}

func (s *site) response(method string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func (s *site) read(resp *http.Response) string {
	s.t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		s.t.Error(err)
	}
	return string(body)
}

func (s *site) wantRows(want ...string) {
	s.t.Helper()
	if got := s.fake.Rows(); !slices.Equal(got, want) {
		s.t.Errorf("rows %q are stored, want %q", got, want)
	}
}

// wantLog checks the calls of the database.
func (s *site) wantLog(want string) {
	s.t.Helper()
	log := slices.DeleteFunc(s.fake.Log(), func(step string) bool { return strings.HasPrefix(step, "open") })
	if got := strings.Join(log, ", "); got != want {
		s.t.Errorf("the database saw %q, want %q", got, want)
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

func (s *site) want(status int, body string, wantStatus int, wantBody string) {
	s.t.Helper()
	if status != wantStatus || body != wantBody {
		s.t.Errorf("the client got %d %.100q, want %d %.100q", status, body, wantStatus, wantBody)
	}
}

const page = "Internal Server Error\n"

// connEnds closes the channel when the first connection is closed, after the
// server is done with its request.
func connEnds(ended chan<- struct{}) func(net.Conn, http.ConnState) {
	var once sync.Once
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			once.Do(func() { close(ended) })
		}
	}
}

// cannotHijack is an outer writer whose Hijack fails.
type cannotHijack struct{ *httptest.ResponseRecorder }

func (cannotHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errInjected }
