package ginscope_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
	"github.com/dbscope/dbscope/middleware/ginscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// plain serves requests for / by an engine without ContextWithFallback, behind the
// middlewares, and returns the status of one.
func plain(t *testing.T, handler gin.HandlerFunc, middlewares ...gin.HandlerFunc) int {
	t.Helper()
	return request(engine(handler, middlewares...))
}

func engine(handler gin.HandlerFunc, middlewares ...gin.HandlerFunc) *gin.Engine {
	e := gin.New()
	e.Use(middlewares...)
	e.GET("/", handler)
	return e
}

func request(h http.Handler) int {
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	return answer.Code
}

func newDB(opts ...dbscope.DBOption) (*drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	f := drivertest.NewFake()
	return f, f.DB(opts...)
}

func TestGinsContextLeadsToTheScopeOfItsRequest(t *testing.T) {
	for name, of := range map[string]func(c *gin.Context) context.Context{
		"c":                  func(c *gin.Context) context.Context { return c },
		"the request's":      func(c *gin.Context) context.Context { return c.Request.Context() },
		"one derived from c": func(c *gin.Context) context.Context { return context.WithValue(c, "key", "value") }, //nolint:staticcheck // as users do
		"a copy, in time":    func(c *gin.Context) context.Context { return c.Copy() },
		"one with a time limit": func(c *gin.Context) context.Context {
			ctx, cancel := context.WithTimeout(c, time.Minute)
			t.Cleanup(cancel)
			return ctx
		},
	} {
		for _, fails := range []bool{false, true} {
			f, db := newDB(dbscope.AllowUnscoped()) // nobody's atomicity is lost by it
			plain(t, func(c *gin.Context) {
				ctx := of(c)
				ok(t, drivertest.Exec(ctx, db, "a"))
				ok(t, db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") }))
				ok(t, dbscope.Join(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "c") }))
				ok(t, dbscope.AfterCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") }))
				if fails {
					c.Status(http.StatusTeapot)
				}
			}, ginscope.Middleware())
			want := []string{"a", "b", "c", "hook"}
			if fails {
				want = nil
			}
			if got := f.Rows(); !slices.Equal(got, want) {
				t.Errorf("%s, failing %t: stored is %v, want %v", name, fails, got, want)
			}
		}
	}
}

func TestGinsContextDoesNotLeadBackToAScopeThatWasLeft(t *testing.T) {
	_, db := newDB()
	plain(t, func(c *gin.Context) {
		for name, ctx := range map[string]context.Context{
			"derived from c":         dbscope.WithoutScope(c),
			"derived from request's": dbscope.WithoutScope(c.Request.Context()),
		} {
			if err := drivertest.Exec(ctx, db, "a"); !errors.Is(err, dbscope.ErrNoScope) {
				t.Errorf("%s: %v", name, err)
			}
		}
		c.Request = c.Request.WithContext(dbscope.WithoutScope(c.Request.Context()))
		if err := drivertest.Exec(c, db, "a"); !errors.Is(err, dbscope.ErrNoScope) {
			t.Errorf("put into the request: %v", err)
		}
	}, ginscope.Middleware())
}

func TestGinsContextLeadsToTheInnermostUnitThatTheRequestHas(t *testing.T) {
	f, db := newDB()
	plain(t, func(c *gin.Context) {
		ok(t, dbscope.Run(c, func(ctx context.Context) error {
			before := c.Request
			defer func() { c.Request = before }()
			c.Request = before.WithContext(ctx)
			return drivertest.Exec(c, db, "inner")
		}))
		ok(t, drivertest.Exec(c, db, "outer"))
		c.Status(http.StatusTeapot)
	}, ginscope.Middleware())
	if got := f.Rows(); !slices.Equal(got, []string{"inner"}) {
		t.Errorf("stored is %v", got)
	}
}

func TestOutsideOfTheMiddlewareGinsContextHasNoScope(t *testing.T) {
	_, db := newDB()
	var before, after error
	var left any
	plain(t, func(c *gin.Context) { ok(t, drivertest.Exec(c, db, "a")) }, func(c *gin.Context) {
		before = drivertest.Exec(c, db, "a")
		c.Next()
		after = drivertest.Exec(c, db, "a")
		left, _ = c.Get(middleware.FrameworkKey)
	}, ginscope.Middleware())
	for _, err := range []error{before, after} {
		if !errors.Is(err, dbscope.ErrNoScope) {
			t.Errorf("error is %v", err)
		}
	}
	if left != nil {
		t.Errorf("%v is left in the context", left)
	}
}

func TestGinsContextHasNoScopeWhereTheRequestHasNone(t *testing.T) {
	_, db := newDB()
	plain(t, func(c *gin.Context) {
		if err := drivertest.Exec(c, db, "a"); !errors.Is(err, dbscope.ErrNoScope) {
			t.Errorf("error is %v", err)
		}
	}, ginscope.Middleware(httpscope.Unscoped(func(*http.Request) bool { return true })))
}

func TestGinsContextLeadsToAScopeFromOutsideOfTheEngine(t *testing.T) {
	f, db := newDB()
	request(httpscope.Middleware()(engine(func(c *gin.Context) { ok(t, drivertest.Exec(c, db, "a")) }, ginscope.Middleware())))
	if got := f.Rows(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("stored is %v", got)
	}
}

func TestEachAttemptLeadsToItsOwnScope(t *testing.T) {
	f, db := newDB()
	attempts := 0
	plain(t, func(c *gin.Context) {
		if attempts++; attempts == 1 {
			f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: dbscope.RolledBack})
		}
		ok(t, drivertest.Exec(c, db, "a"))
	}, ginscope.Middleware(httpscope.Retry(dbscope.RetryPolicy{MinDelay: 1}, 1000)))
	if got := f.Rows(); attempts != 2 || !slices.Equal(got, []string{"a"}) {
		t.Errorf("after %d attempts stored is %v", attempts, got)
	}
}

// gin uses a context again at once: its next request is another one's.
func TestACopyThatOutlivesItsRequestNeverFindsAnothersScope(t *testing.T) {
	f, db := newDB()
	var copies sync.WaitGroup
	over := make(chan struct{})
	e := engine(func(c *gin.Context) {
		ok(t, drivertest.Exec(c, db, "of a request"))
		kept := c.Copy()
		copies.Go(func() {
			for range 20 {
				if err := drivertest.Exec(kept, db, "of a copy"); errors.Is(err, dbscope.ErrScopeEnded) {
					break
				}
				time.Sleep(time.Millisecond)
			}
			<-over
			if err := drivertest.Exec(kept, db, "too late"); !errors.Is(err, dbscope.ErrScopeEnded) {
				t.Errorf("a copy that is left over: %v", err)
			}
			ok(t, dbscope.Run(kept, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "of its own") }))
		})
	}, ginscope.Middleware())
	for range 100 {
		request(e)
	}
	close(over)
	copies.Wait()
	if slices.Contains(f.Rows(), "too late") {
		t.Errorf("stored is %v", f.Rows())
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("unexpected error: %v", err)
	}
}
