package echoscope_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

var errSecret = errors.New("driver: secret detail")

var errConflict = echo.NewHTTPError(http.StatusConflict, "Conflict")

// site is a server whose handler works on a fake database.
type site struct {
	t    *testing.T
	fake *drivertest.Fake
	db   *dbscope.DB[*drivertest.Tx]
	url  string

	ended chan struct{} // receives when all middlewares have returned

	mu      sync.Mutex
	sent    []string // what a middleware outside saw of each response
	handled []error  // what the error handler was called with
}

// newSite serves every path with the handler, behind middlewares between the
// logger of the site and it. The scope's is among them.
func newSite(t *testing.T, handler func(*site, *echo.Context) error, between ...echo.MiddlewareFunc) *site {
	t.Helper()
	s := &site{t: t, fake: drivertest.NewFake(), ended: make(chan struct{}, 10)}
	s.db = s.fake.DB()
	e := newEcho()
	e.HTTPErrorHandler = func(c *echo.Context, err error) {
		s.mu.Lock()
		s.handled = append(s.handled, err)
		s.mu.Unlock()
		echo.DefaultHTTPErrorHandler(true)(c, err)
	}
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			defer func() { s.ended <- struct{}{} }()
			err := next(c)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sent = append(s.sent, seen(c, err))
			return err
		}
	})
	e.Use(between...)
	e.Any("/*", func(c *echo.Context) error { return handler(s, c) })
	s.url = start(t, e).URL
	return s
}

// seen is what the context says of its response.
func seen(c *echo.Context, err error) string {
	resp, status := echo.ResolveResponseStatus(c.Response(), err)
	return fmt.Sprintf("status %d, size %d, committed %t", status, resp.Size, resp.Committed)
}

func (s *site) store(c *echo.Context, row string) error {
	return drivertest.Exec(c.Request().Context(), s.db, row)
}

func (s *site) do(method, path string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader("row"))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Close = true
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		s.t.Error(err)
	}
	if s.ended != nil {
		<-s.ended
	}
	return resp, string(body)
}

func (s *site) want(got any, want any, what string) {
	s.t.Helper()
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); g != w {
		s.t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func (s *site) wantRows(rows ...string) {
	s.t.Helper()
	if got := s.fake.Rows(); !slices.Equal(got, rows) {
		s.t.Errorf("rows %q are stored, want %q", got, rows)
	}
}

func (s *site) wantSent(what string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want(s.sent, []string{what}, "a middleware outside sees")
}

func (s *site) wantHandled(n int) error {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.handled) != n {
		s.t.Fatalf("the error handler was called with %q, want %d calls", s.handled, n)
	}
	return errors.Join(s.handled...)
}

func TestStatusSizeAndCommittedAreRightInsideAndOutside(t *testing.T) {
	for name, c := range map[string]struct {
		answer          func(*echo.Context) error
		inside, outside string
		status          int
	}{
		"nothing":    {func(*echo.Context) error { return nil }, "status 200, size 0, committed false", "status 200, size 0, committed false", 200},
		"a body":     {func(c *echo.Context) error { return c.String(201, "four") }, "status 201, size 4, committed true", "status 201, size 4, committed true", 201},
		"JSON":       {func(c *echo.Context) error { return c.JSON(409, 1) }, "status 409, size 2, committed true", "status 409, size 2, committed true", 409},
		"no content": {func(c *echo.Context) error { return c.NoContent(204) }, "status 204, size 0, committed true", "status 204, size 0, committed true", 204},
		"a redirect": {func(c *echo.Context) error { return c.Redirect(303, "/x") }, "status 303, size 0, committed true", "status 303, size 0, committed true", 303},
		"a stream": {func(c *echo.Context) error {
			return c.Stream(200, "text/plain", strings.NewReader(strings.Repeat("x", 100<<10)))
		}, "status 200, size 102400, committed true", "status 200, size 102400, committed true", 200},
		"a flush": {func(c *echo.Context) error {
			c.Response().WriteHeader(202)
			c.Response().(http.Flusher).Flush()
			_, err := c.Response().Write([]byte("later"))
			return err
		}, "status 202, size 5, committed true", "status 202, size 5, committed true", 202},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *site, ctx *echo.Context) error {
				s.want(seen(ctx, nil), "status 200, size 0, committed false", "before the answer")
				err := errors.Join(s.store(ctx, "row"), c.answer(ctx))
				s.want(seen(ctx, nil), c.inside, "after the answer")
				return err
			}, echoscope.Middleware())
			resp, _ := s.do(http.MethodPost, "/")
			s.want(resp.StatusCode, c.status, "the status")
			s.wantSent(c.outside)
			if c.status < 400 {
				s.wantRows("row")
			} else {
				s.wantRows()
			}
			_ = s.wantHandled(0)
		})
	}
}

func TestAnErrorIsAnsweredOnceByTheErrorHandler(t *testing.T) {
	for name, c := range map[string]struct {
		handler func(*echo.Context) error
		status  int
		body    string
	}{
		"an HTTPError":             {func(*echo.Context) error { return echo.NewHTTPError(409, "taken") }, 409, `{"message":"taken"}`},
		"any error":                {func(*echo.Context) error { return errors.New("no") }, 500, `{"error":"no","message":"Internal Server Error"}`},
		"after a success was held": {func(c *echo.Context) error { return errors.Join(c.String(200, "stored"), errConflict) }, 409, `{"message":"Conflict"}`},
		"after half a JSON value":  {func(c *echo.Context) error { return c.JSON(200, []any{"stored", func() {}}) }, 500, "unsupported type"},
		"after a failure was held": {func(c *echo.Context) error { return errors.Join(c.String(418, "teapot"), errConflict) }, 418, "teapot"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *site, ctx *echo.Context) error {
				ctx.Response().Header().Set(echo.HeaderWWWAuthenticate, "Basic")
				return errors.Join(s.store(ctx, "row"), c.handler(ctx))
			}, echoscope.Middleware())
			resp, body := s.do(http.MethodPost, "/")
			s.want(resp.StatusCode, c.status, "the status")
			if !strings.Contains(body, c.body) {
				t.Errorf("the body is %q, want %q in it", body, c.body)
			}
			if kept, held := resp.Header.Get(echo.HeaderWWWAuthenticate) != "", strings.Contains(name, "success"); kept == held {
				t.Errorf("the handler's headers: kept %t, a success was held %t", kept, held)
			}
			s.wantRows()
			if s.wantHandled(1) == nil {
				t.Error("the error handler got no error")
			}
		})
	}
}

func TestAFailedCommitIsNotTheErrorHandlersToTell(t *testing.T) {
	s := newSite(t, func(s *site, c *echo.Context) error {
		return errors.Join(s.store(c, "row"), c.String(201, "stored"))
	}, echoscope.Middleware(httpscope.OnError(func(*http.Request, error) {})))
	s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
	resp, body := s.do(http.MethodPost, "/")
	s.want(resp.StatusCode, 500, "the status")
	s.want(body, "Internal Server Error\n", "the body")
	s.wantSent("status 500, size 22, committed true")
	_ = s.wantHandled(0)
}

func TestAnErrorHandledInsideIsNotSentTwice(t *testing.T) {
	logger := middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		HandleError:   true, // calls the error handler, and returns the error all the same
		LogValuesFunc: func(*echo.Context, middleware.RequestLoggerValues) error { return nil },
	})
	s := newSite(t, func(s *site, c *echo.Context) error {
		return errors.Join(s.store(c, "row"), echo.NewHTTPError(404, "no such thing"))
	}, echoscope.Middleware(), logger)
	resp, body := s.do(http.MethodPost, "/")
	s.want(resp.StatusCode, 404, "the status")
	s.want(body, `{"message":"no such thing"}`+"\n", "the body")
	s.wantRows()
}

func TestEchosRecoverSeesTheWholeStack(t *testing.T) {
	var response http.ResponseWriter
	var request *http.Request
	s := newSite(t, func(s *site, c *echo.Context) error {
		if err := errors.Join(s.store(c, "row"), c.String(200, "half")); err != nil {
			return err
		}
		return theOneThatPanics()
	}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			response, request = c.Response(), c.Request()
			err := next(c)
			if c.Response() != response || c.Request() != request {
				t.Error("the context's response and request are not those of before")
			}
			return err
		}
	}, middleware.Recover(), echoscope.Middleware())
	resp, body := s.do(http.MethodPost, "/")
	s.want(resp.StatusCode, 500, "the status")
	if strings.Contains(body, "half") {
		t.Errorf("the client got %q", body)
	}
	s.wantRows()
	var recovered *middleware.PanicStackError
	if err := s.wantHandled(1); !errors.As(err, &recovered) || !strings.Contains(string(recovered.Stack), "theOneThatPanics") {
		t.Errorf("Recover saw %v", err)
	}
}

//go:noinline
func theOneThatPanics() error { panic("on purpose") }

func TestEachAttemptHasAResponseOfItsOwn(t *testing.T) {
	attempts := 0
	s := newSite(t, func(s *site, c *echo.Context) error {
		attempts++
		s.want(seen(c, nil), "status 200, size 0, committed false", "before the answer")
		body, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		if err := c.String(201, "stored"); err != nil {
			return err
		}
		return s.store(c, string(body))
	}, echoscope.Middleware(httpscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond}, 100)))
	s.fake.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted})
	s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	resp, body := s.do(http.MethodPost, "/")
	s.want(resp.StatusCode, 201, "the status")
	s.want(body, "stored", "the body")
	s.want(attempts, 3, "attempts")
	s.wantRows("row")
	s.wantSent("status 201, size 6, committed true")
	_ = s.wantHandled(0)
}

func TestTheOptionsAreThoseOfHttpscope(t *testing.T) {
	s := newSite(t, func(s *site, c *echo.Context) error {
		held := any(c.Response()) != c.Get("outer")
		_, scoped := dbscope.FromContext(c.Request().Context())
		if static := c.Request().URL.Path == "/static"; static == scoped || static == held {
			s.t.Errorf("%s: scope %t, a response of its own %t", c.Request().URL.Path, scoped, held)
		}
		if scoped {
			return s.store(c, "row")
		}
		return nil
	}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			c.Set("outer", c.Response())
			return next(c)
		}
	}, echoscope.Middleware(httpscope.ReadOnlySafeMethods(),
		httpscope.Unscoped(func(r *http.Request) bool { return r.URL.Path == "/static" })))
	s.do(http.MethodGet, "/static")
	s.want(len(s.fake.Log()), 0, "calls of the database")
	s.do(http.MethodGet, "/")
	if log := strings.Join(s.fake.Log(), ", "); !strings.Contains(log, "read-only") {
		t.Errorf("the database saw %s", log)
	}
}

func TestARouteThatIsNotThereStaysNotFound(t *testing.T) {
	e := newEcho()
	e.Use(echoscope.Middleware())
	e.GET("/there", func(*echo.Context) error { return nil })
	s := &site{t: t, url: start(t, e).URL}
	resp, body := s.do(http.MethodGet, "/elsewhere")
	s.want(resp.StatusCode, 404, "the status")
	s.want(body, `{"message":"Not Found"}`+"\n", "the body")
	resp, _ = s.do(http.MethodPost, "/there")
	s.want(resp.StatusCode, 405, "the status")
	s.want(resp.Header.Get(echo.HeaderAllow), "OPTIONS, GET", "the allowed methods")
}

func TestAHeadRequestHasTheHeadersOfGet(t *testing.T) {
	for name, use := range map[string]func(*echo.Echo) []echo.MiddlewareFunc{
		"for all routes": func(e *echo.Echo) []echo.MiddlewareFunc { e.Use(echoscope.Middleware()); return nil },
		"for one route":  func(*echo.Echo) []echo.MiddlewareFunc { return []echo.MiddlewareFunc{echoscope.Middleware()} },
	} {
		fake := drivertest.NewFake()
		db := fake.DB()
		e := echo.NewWithConfig(echo.Config{Router: echo.NewRouter(echo.RouterConfig{AutoHandleHEAD: true})})
		of := use(e)
		e.GET("/", func(c *echo.Context) error {
			return errors.Join(drivertest.Exec(c.Request().Context(), db, name), c.String(200, "hello"))
		}, of...)
		s := &site{t: t, fake: fake, url: start(t, e).URL}
		resp, body := s.do(http.MethodHead, "/")
		s.want(resp.StatusCode, 200, name)
		s.want(resp.ContentLength, 5, name+": the length")
		s.want(body, "", name+": the body")
		s.wantRows(name)
	}
}

func TestCompressionOutsideGetsWhatWasCommitted(t *testing.T) {
	s := newSite(t, func(s *site, c *echo.Context) error {
		return errors.Join(s.store(c, "row"), c.String(200, strings.Repeat("x", 1<<10)))
	}, middleware.Gzip(), echoscope.Middleware())
	resp, body := s.do(http.MethodPost, "/", "Accept-Encoding", "gzip")
	s.want(resp.Header.Get("Content-Encoding"), "gzip", "the encoding")
	if len(body) > 1<<9 {
		t.Errorf("the body has %d bytes", len(body))
	}
	s.wantRows("row")
}

func TestAResponseGoesOnFromTheOneOutside(t *testing.T) {
	s := newSite(t, func(s *site, c *echo.Context) error {
		resp, err := echo.UnwrapResponse(c.Response())
		s.want(err, nil, "unwrapping the response")
		s.want(resp.Status, 202, "the status that a middleware outside suggests")
		_, err = resp.Write([]byte("four"))
		return err
	}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			resp, err := echo.UnwrapResponse(c.Response())
			resp.Status = http.StatusAccepted
			return errors.Join(err, next(c))
		}
	}, echoscope.Middleware())
	resp, body := s.do(http.MethodPost, "/")
	s.want(resp.StatusCode, 202, "the status")
	s.want(body, "four", "the body")
	s.wantSent("status 202, size 4, committed true")
}

func TestARefusedBodyIsSeenOutside(t *testing.T) {
	s := newSite(t, func(s *site, _ *echo.Context) error {
		s.t.Error("the handler is called")
		return nil
	}, echoscope.Middleware(httpscope.BufferBody(2)))
	resp, body := s.do(http.MethodPost, "/")
	s.want(resp.StatusCode, 413, "the status")
	s.want(body, "Request Entity Too Large\n", "the body")
	s.wantSent("status 413, size 25, committed true")
}
