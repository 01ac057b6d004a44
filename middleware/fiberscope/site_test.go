package fiberscope_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/fiberscope"
)

var errInjected = errors.New("driver: secret detail")

// site is an application with the middleware over a fake database.
type site struct {
	t    *testing.T
	app  *fiber.App
	fake *drivertest.Fake
	db   *dbscope.DB[*drivertest.Tx]
	url  string

	mu   sync.Mutex
	errs []error
}

func newSite(t *testing.T, config ...fiber.Config) *site {
	fake := drivertest.NewFake()
	return &site{t: t, app: fiber.New(config...), fake: fake, db: fake.DB()}
}

// serve adds the middleware and the handler to the app, and serves it.
func (s *site) serve(handler fiber.Handler, opts ...fiberscope.Option) {
	s.t.Helper()
	s.use(opts...)
	s.app.All("/*", handler)
	s.url = listen(s.t, s.app)
}

func (s *site) use(opts ...fiberscope.Option) {
	s.app.Use(fiberscope.Middleware(append([]fiberscope.Option{fiberscope.OnError(func(_ fiber.Ctx, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	})}, opts...)...))
}

func (s *site) store(ctx context.Context, row string) {
	s.t.Helper()
	if err := drivertest.Exec(ctx, s.db, row); err != nil {
		s.t.Errorf("storing %q: %v", row, err)
	}
}

func (s *site) response(method string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Close = true
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func (s *site) want(resp *http.Response, status int, body string) {
	s.t.Helper()
	got, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		s.t.Error(err)
	}
	if resp.StatusCode != status || string(got) != body {
		s.t.Errorf("the client got %d %q, want %d %q", resp.StatusCode, got, status, body)
	}
}

func (s *site) wantRows(want ...string) {
	s.t.Helper()
	if got := s.fake.Rows(); !slices.Equal(got, want) {
		s.t.Errorf("rows %q are stored, want %q", got, want)
	}
}

// log is what the database saw.
func (s *site) log() string { return strings.Join(s.fake.Log(), ", ") }

func (s *site) wantErrors(want ...error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.EqualFunc(s.errs, want, errors.Is) {
		s.t.Errorf("the error hook was told %q, want %q", s.errs, want)
	}
}
