package ginscope_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/ginscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

var errSecret = errors.New("driver: secret detail")

// site is a server whose handler works on a fake database.
type site struct {
	t      *testing.T
	engine *gin.Engine
	fake   *drivertest.Fake
	db     *dbscope.DB[*drivertest.Tx]
	url    string

	ended chan struct{} // receives when all middlewares have returned

	mu   sync.Mutex
	sent []string // what a middleware outside saw of each response
	errs []error  // and of c.Errors
}

// newSite serves /path with the handler, behind middlewares between the logger
// of the site and it. The scope's is among them.
func newSite(t *testing.T, handler func(*site, *gin.Context), between ...gin.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, engine: gin.New(), fake: drivertest.NewFake(), ended: make(chan struct{}, 10)}
	s.db = s.fake.DB()
	s.engine.ContextWithFallback = true
	s.engine.Use(func(c *gin.Context) {
		defer func() { s.ended <- struct{}{} }()
		c.Next()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sent = append(s.sent, seen(c))
		for _, err := range c.Errors {
			s.errs = append(s.errs, err)
		}
	})
	s.engine.Use(between...)
	s.engine.Any("/path", func(c *gin.Context) { handler(s, c) })
	s.url = start(t, s.engine).URL
	return s
}

// seen is what the context says of its response.
func seen(c *gin.Context) string {
	return fmt.Sprintf("status %d, size %d, written %t", c.Writer.Status(), c.Writer.Size(), c.Writer.Written())
}

func (s *site) store(c *gin.Context, row string) {
	s.t.Helper()
	if err := drivertest.Exec(c, s.db, row); err != nil {
		s.t.Errorf("storing %q: %v", row, err)
	}
}

func (s *site) do(method, path string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader("row"))
	if err != nil {
		s.t.Fatal(err)
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
	<-s.ended
	return resp, string(body)
}

func (s *site) want(got, want any, what string) {
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

func (s *site) wantErrors(errs ...error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.EqualFunc(s.errs, errs, errors.Is) {
		s.t.Errorf("a middleware outside sees the errors %v, want %v", s.errs, errs)
	}
}

func TestStatusSizeAndWrittenAreAsWithoutTheMiddleware(t *testing.T) {
	for name, answer := range map[string]func(*gin.Context){
		"nothing":            func(*gin.Context) {},
		"a status":           func(c *gin.Context) { c.Status(202) },
		"an error status":    func(c *gin.Context) { c.Status(404) },
		"a status, at once":  func(c *gin.Context) { c.Status(202); c.Writer.WriteHeaderNow() },
		"two statuses":       func(c *gin.Context) { c.Status(404); c.Status(201) },
		"a status too late":  func(c *gin.Context) { c.String(201, "four"); c.Status(404) },
		"an abort":           func(c *gin.Context) { c.Abort() },
		"an abort by status": func(c *gin.Context) { c.AbortWithStatus(403) },
		"an abort with JSON": func(c *gin.Context) { c.AbortWithStatusJSON(409, gin.H{"a": 1}) },
		"an abort by error":  func(c *gin.Context) { _ = c.AbortWithError(409, errSecret) },
		"text":               func(c *gin.Context) { c.String(201, "%s", "four") },
		"JSON":               func(c *gin.Context) { c.JSON(200, gin.H{"a": 1}) },
		"data":               func(c *gin.Context) { c.Data(200, "text/plain", bytes.Repeat([]byte("x"), 100<<10)) },
		"no content":         func(c *gin.Context) { c.JSON(204, nil) },
		"a redirect":         func(c *gin.Context) { c.Redirect(303, "/x") },
		"headers":            func(c *gin.Context) { c.Header("X-Handler", "was here"); c.Status(400) },
		"a file":             func(c *gin.Context) { c.File("middleware.go") },
		"a reader": func(c *gin.Context) {
			c.DataFromReader(200, 4, "text/plain", strings.NewReader("four"), map[string]string{"X-Handler": "was here"})
		},
		"a stream": func(c *gin.Context) {
			n := 0
			c.Stream(func(w io.Writer) bool {
				n++
				c.SSEvent("tick", n)
				return n < 3
			})
		},
		"a flush": func(c *gin.Context) { c.Status(202); c.Writer.Flush(); c.String(200, "later") },
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				var inside [2]string
				var resp [2]*http.Response
				var body [2]string
				var sites [2]*site
				for i, between := range [2]gin.HandlerFunc{func(*gin.Context) {}, ginscope.Middleware()} {
					s := newSite(t, func(s *site, c *gin.Context) {
						if i == 1 {
							s.store(c, "row")
						}
						s.want(seen(c), "status 200, size -1, written false", "before the answer")
						answer(c)
						inside[i] = seen(c)
					}, between)
					resp[i], body[i] = s.do(method, "/path")
					sites[i] = s
				}
				s := sites[1]
				s.want(inside[1], inside[0], "inside")
				s.want(s.sent, sites[0].sent, "outside")
				s.want(resp[1].StatusCode, resp[0].StatusCode, "the status")
				for _, r := range resp {
					r.Header.Del("Date")
					r.Header.Del("Content-Length") // depends on what the server buffered
				}
				s.want(resp[1].Header, resp[0].Header, "the header")
				s.want(body[1], body[0], "the body")
				if resp[1].StatusCode < 400 {
					s.wantRows("row")
				} else {
					s.wantRows()
				}
			}
		})
	}
}

func TestAnAddedErrorRollsBack(t *testing.T) {
	for name, c := range map[string]struct {
		handler func(*gin.Context)
		status  int
		body    string
		sent    string
		headers bool
	}{
		"alone":               {func(*gin.Context) {}, 500, "", "status 500, size -1, written false", true},
		"with a status":       {func(c *gin.Context) { c.Status(403) }, 403, "", "status 403, size -1, written false", true},
		"under a success":     {func(c *gin.Context) { c.Status(201) }, 500, "", "status 500, size -1, written false", true},
		"after a success":     {func(c *gin.Context) { c.JSON(201, "stored") }, 500, "", "status 500, size -1, written false", false},
		"after a failure":     {func(c *gin.Context) { c.String(409, "taken") }, 409, "taken", "status 409, size 5, written true", true},
		"after half an XML":   {func(c *gin.Context) { c.XML(200, []any{"stored", make(chan int)}) }, 500, "", "status 500, size -1, written false", true},
		"after it was sent":   {func(c *gin.Context) { c.String(200, "sent"); c.Writer.Flush() }, 200, "sent", "status 200, size 4, written true", true},
		"with an early abort": {func(c *gin.Context) { c.AbortWithStatus(418) }, 418, "", "status 418, size 0, written true", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *site, ctx *gin.Context) {
				ctx.Header("X-Handler", "was here")
				c.handler(ctx)
				s.store(ctx, "row")
				_ = ctx.Error(errSecret)
			}, ginscope.Middleware())
			resp, body := s.do(http.MethodPost, "/path")
			s.want(resp.StatusCode, c.status, "the status")
			s.want(body, c.body, "the body")
			s.want(resp.Header.Get("X-Handler") != "", c.headers, "the handler's headers are sent")
			s.wantSent(c.sent)
			s.wantRows()
		})
	}
}

// answerErrors is the error handler of gin's documentation.
func answerErrors(c *gin.Context) {
	c.Next()
	if len(c.Errors) > 0 && !c.Writer.Written() {
		c.JSON(http.StatusUnprocessableEntity, gin.H{"error": "no"})
	}
}

func TestAnErrorHandlerAnswersOutsideAndInside(t *testing.T) {
	for name, between := range map[string][]gin.HandlerFunc{
		"outside": {answerErrors, ginscope.Middleware()},
		"inside":  {ginscope.Middleware(), answerErrors},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *site, c *gin.Context) {
				s.store(c, "row")
				_ = c.Error(errSecret)
			}, between...)
			resp, body := s.do(http.MethodPost, "/path")
			s.want(resp.StatusCode, 422, "the status")
			s.want(body, `{"error":"no"}`, "the body")
			s.wantSent("status 422, size 14, written true")
			s.wantErrors(errSecret)
			s.wantRows()
		})
	}
}

func TestAFailedCommitIsSeenOutside(t *testing.T) {
	for name, answer := range map[string]func(*gin.Context){
		"of a status": func(c *gin.Context) { c.Status(201) },
		"of a body":   func(c *gin.Context) { c.String(201, "stored") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *site, c *gin.Context) {
				s.store(c, "row")
				answer(c)
			}, ginscope.Middleware(httpscope.OnError(func(*http.Request, error) {})))
			s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
			resp, body := s.do(http.MethodPost, "/path")
			s.want(resp.StatusCode, 500, "the status")
			s.want(body, "Internal Server Error\n", "the body")
			s.wantSent("status 500, size 22, written true")
		})
	}
}

func TestGinsRecoverySeesTheWholeStackAndItsOwnWriter(t *testing.T) {
	var log bytes.Buffer
	var writer gin.ResponseWriter
	s := newSite(t, func(s *site, c *gin.Context) {
		s.store(c, "row")
		c.String(200, "half")
		theOneThatPanics()
	}, func(c *gin.Context) {
		writer = c.Writer
		request := c.Request
		c.Next()
		if c.Writer != writer || c.Request != request {
			t.Error("the context's writer and request are not those of before")
		}
	}, gin.RecoveryWithWriter(&log), ginscope.Middleware())
	resp, body := s.do(http.MethodPost, "/path")
	s.want(resp.StatusCode, 500, "the status")
	s.want(body, "", "the body")
	s.wantSent("status 500, size 0, written true")
	s.wantRows()
	if !strings.Contains(log.String(), "theOneThatPanics") {
		t.Errorf("Recovery saw %s", log.String())
	}
}

//go:noinline
func theOneThatPanics() { panic("on purpose") }

func TestEachAttemptFindsTheContextAsItWas(t *testing.T) {
	attempts := 0
	var aborts []bool
	s := newSite(t, func(s *site, c *gin.Context) {
		attempts++
		s.want(seen(c), "status 200, size -1, written false", "before the answer")
		s.want(c.Keys, map[any]any{"before": "yes"}, "the keys")
		s.want(len(c.Errors), 0, "errors")
		c.Set("during", "yes")
		body, err := io.ReadAll(c.Request.Body)
		if err != nil {
			t.Error(err)
		}
		if err := drivertest.Exec(c, s.db, string(body)); err != nil {
			_ = c.AbortWithError(500, err)
			return
		}
		c.String(201, "stored")
	}, func(c *gin.Context) {
		c.Set("before", "yes")
		c.Next()
		aborts = append(aborts, c.IsAborted())
	}, ginscope.Middleware(httpscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond}, 100)), func(*gin.Context) {})
	s.fake.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted})
	s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	resp, body := s.do(http.MethodPost, "/path")
	s.want(resp.StatusCode, 201, "the status")
	s.want(body, "stored", "the body")
	s.want(attempts, 3, "attempts")
	s.want(aborts, []bool{false}, "aborted")
	s.wantSent("status 201, size 6, written true")
	s.wantErrors()
	s.wantRows("row")
}

func TestAnAbortInsideEndsTheChain(t *testing.T) {
	aborted := false
	s := newSite(t, func(s *site, _ *gin.Context) { s.t.Error("the handler is called") }, func(c *gin.Context) {
		c.Next()
		aborted = c.IsAborted()
	}, ginscope.Middleware(), func(c *gin.Context) { c.AbortWithStatus(401) })
	resp, _ := s.do(http.MethodPost, "/path")
	s.want(resp.StatusCode, 401, "the status")
	s.want(aborted, true, "aborted")
	s.wantSent("status 401, size 0, written true")
}

func TestRoutesThatAreNotThereStaySo(t *testing.T) {
	s := newSite(t, nil, ginscope.Middleware())
	s.engine.HandleMethodNotAllowed = true
	resp, body := s.do(http.MethodGet, "/elsewhere")
	s.want(resp.StatusCode, 404, "the status")
	s.want(body, "404 page not found", "the body")
	s.wantSent("status 404, size -1, written false")
	resp, body = s.do("PURGE", "/path")
	s.want(resp.StatusCode, 405, "the status")
	s.want(body, "405 method not allowed", "the body")
	s.engine.NoRoute(func(c *gin.Context) {
		s.store(c, "row")
		c.String(200, "%s", "a page for all")
	})
	resp, body = s.do(http.MethodGet, "/elsewhere")
	s.want(resp.StatusCode, 200, "the status")
	s.want(body, "a page for all", "the body")
	s.wantRows("row")
}

func TestTheOptionsAreThoseOfHttpscope(t *testing.T) {
	var outer gin.ResponseWriter
	s := newSite(t, func(s *site, c *gin.Context) {
		_, scoped := dbscope.FromContext(c)
		if static := c.Query("static") != ""; static == scoped || static != (c.Writer == outer) {
			s.t.Errorf("%s: scope %t, a writer of its own %t", c.Request.URL, scoped, c.Writer != outer)
		}
		if scoped {
			s.store(c, "row")
		}
	}, func(c *gin.Context) { outer = c.Writer }, ginscope.Middleware(httpscope.ReadOnlySafeMethods(),
		httpscope.Unscoped(func(r *http.Request) bool { return r.URL.RawQuery != "" })))
	s.do(http.MethodGet, "/path?static=yes")
	s.want(len(s.fake.Log()), 0, "calls of the database")
	s.do(http.MethodGet, "/path")
	if log := strings.Join(s.fake.Log(), ", "); !strings.Contains(log, "read-only") {
		t.Errorf("the database saw %s", log)
	}
}

func TestAHandlerThatGoesOnElsewhereIsDecidedByWhatWasSent(t *testing.T) {
	s := newSite(t, func(s *site, c *gin.Context) {
		s.store(c, "row of "+c.Request.URL.RawQuery)
		c.Request.URL.Path = "/" + c.Request.URL.RawQuery
		s.engine.HandleContext(c)
	}, ginscope.Middleware())
	s.engine.Any("/good", func(c *gin.Context) { c.String(201, "%s", "good") })
	s.engine.Any("/bad", func(c *gin.Context) { c.String(409, "%s", "bad") })
	for path, status := range map[string]int{"good": 201, "bad": 409} {
		resp, body := s.do(http.MethodPost, "/path?"+path)
		s.want(resp.StatusCode, status, "the status")
		s.want(body, path, "the body")
	}
	s.wantRows("row of good")
}

// compressor stands for gin-contrib/gzip, which looks at the status when the
// first byte comes.
type compressor struct{ gin.ResponseWriter }

func (w compressor) Write(p []byte) (int, error) {
	if w.Status() >= 400 {
		w.Header().Del("Content-Encoding")
	}
	return w.ResponseWriter.Write(p)
}

func (w compressor) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

func TestWhatCompressesOutsideCanStillChangeTheHeader(t *testing.T) {
	compress := func(c *gin.Context) {
		c.Header("Content-Encoding", "x")
		c.Writer = compressor{c.Writer}
	}
	s := newSite(t, func(s *site, c *gin.Context) {
		s.store(c, "row")
		status := http.StatusCreated
		if c.Query("refuse") != "" {
			status = http.StatusConflict
		}
		c.String(status, "%s", "the answer")
	}, compress, ginscope.Middleware(httpscope.OnError(func(*http.Request, error) {})))
	for query, encoding := range map[string]string{"": "x", "?refuse=1": ""} {
		resp, body := s.do(http.MethodPost, "/path"+query)
		s.want(resp.Header.Get("Content-Encoding"), encoding, "the encoding with "+query)
		s.want(body, "the answer", "the body")
	}
	s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
	resp, _ := s.do(http.MethodPost, "/path")
	s.want(resp.StatusCode, 500, "the status")
	s.want(resp.Header.Get("Content-Encoding"), "", "the encoding of the failure page")
}

func TestEarlyHintsDoNotTakeTheStatusAway(t *testing.T) {
	s := newSite(t, func(s *site, c *gin.Context) {
		s.store(c, "row")
		c.Header("Link", "</style.css>")
		c.Writer.(interface{ Unwrap() http.ResponseWriter }).Unwrap().WriteHeader(http.StatusEarlyHints)
		c.String(404, "%s", "not found")
	}, ginscope.Middleware())
	resp, body := s.do(http.MethodPost, "/path")
	s.want(resp.StatusCode, 404, "the status")
	s.want(body, "not found", "the body")
	s.wantSent("status 404, size 9, written true")
	s.wantRows()
}

func TestAHandlerMayAnswerWithGinAndTakeTheConnectionOver(t *testing.T) {
	s := newSite(t, func(s *site, c *gin.Context) {
		s.store(c, "before")
		c.Header("Connection", "Upgrade")
		c.Header("Upgrade", "echo")
		c.Status(101)
		c.Writer.WriteHeaderNow()
		conn, rw, err := http.NewResponseController(c.Writer).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		s.wantRows("before")
		s.want(c.Writer.Written(), true, "written")
		_, copied := io.Copy(conn, rw) // until the client is done
		if err = errors.Join(rw.Flush(), copied, conn.Close()); err != nil {
			t.Error(err)
		}
	}, ginscope.Middleware())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, "GET /path HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.want(resp.StatusCode, 101, "the status")
	s.want(resp.Header.Get("Upgrade"), "echo", "the header")
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-s.ended
}

func TestARefusedBodyIsSeenOutside(t *testing.T) {
	s := newSite(t, func(s *site, _ *gin.Context) { s.t.Error("the handler is called") },
		ginscope.Middleware(httpscope.BufferBody(2)))
	resp, body := s.do(http.MethodPost, "/path")
	s.want(resp.StatusCode, 413, "the status")
	s.want(body, "Request Entity Too Large\n", "the body")
	s.wantSent("status 413, size 25, written true")
}
