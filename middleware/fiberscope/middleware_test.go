package fiberscope_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/gofiber/fiber/v3/middleware/timeout"
	"github.com/valyala/fasthttp"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/fiberscope"
	"github.com/dbscope/dbscope/scopetest"
)

func TestAnErrorGoesOnToTheErrorHandlerOutsideTheScope(t *testing.T) {
	s := newSite(t, fiber.Config{ErrorHandler: func(c fiber.Ctx, err error) error {
		if _, ok := dbscope.FromContext(c.Context()); ok {
			t.Error("the error handler has a scope")
		}
		var e *fiber.Error
		if !errors.As(err, &e) {
			t.Errorf("the error is %v", err)
			return err
		}
		return c.Status(e.Code).SendString("no: " + e.Message)
	}})
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		return fiber.NewError(fiber.StatusConflict, "sold out")
	})
	s.want(s.response(http.MethodPost), 409, "no: sold out")
	s.wantRows()
	s.wantErrors()
}

func TestMiddlewaresOutsideGetTheirContextBack(t *testing.T) {
	type key struct{}
	s := newSite(t)
	s.app.Use(func(c fiber.Ctx) error {
		outer := context.WithValue(c.Context(), key{}, "outer")
		c.SetContext(outer)
		err := c.Next()
		if c.Context() != outer {
			t.Error("the context is another one")
		}
		return err
	})
	s.serve(func(c fiber.Ctx) error {
		if c.Context().Value(key{}) != "outer" {
			t.Error("the handler's context lost a value")
		}
		return nil
	})
	s.want(s.response(http.MethodPost), 200, "")
}

func TestFibersOwnContextHasNoScope(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		if err := drivertest.Exec(c, s.db, "row"); !errors.Is(err, dbscope.ErrNoScope) {
			t.Errorf("a statement under c returned %v", err)
		}
		return nil
	})
	s.want(s.response(http.MethodPost), 200, "")
}

func TestTheHeadersOfOuterMiddlewaresSurviveAFailedCommit(t *testing.T) {
	s := newSite(t)
	s.app.Use(func(c fiber.Ctx) error {
		c.Set("X-Request-Id", "7")
		c.Append("Vary", "a", "b")
		return c.Next()
	})
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		c.Response().Header.Del("X-Request-Id")
		c.Append("Vary", "c")
		c.Cookie(&fiber.Cookie{Name: "session", Value: "secret"})
		return c.Status(fiber.StatusCreated).JSON(fiber.Map{"stored": true})
	})
	resp := s.response(http.MethodPost)
	s.want(resp, 500, "Internal Server Error")
	if h := resp.Header; h.Get("X-Request-Id") != "7" || h.Get("Vary") != "a, b" || h.Get("Set-Cookie") != "" ||
		h.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("the headers are %v", h)
	}
	s.wantErrors(errInjected)
}

func TestTheFailurePageIsTheApplications(t *testing.T) {
	s := newSite(t)
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.Unknown})
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		return c.SendString("stored")
	}, fiberscope.FailurePage(func(c fiber.Ctx, err error) error {
		if !errors.Is(err, dbscope.ErrCommitUnknown) {
			t.Errorf("the page is for %v", err)
		}
		return c.Status(fiber.StatusServiceUnavailable).SendString("look before you try again")
	}))
	s.want(s.response(http.MethodPost), 503, "look before you try again")
	s.wantErrors(errInjected)
}

// A server of fasthttp leaves the client without an answer, so there is none
// here.
func TestGoexitRollsBack(t *testing.T) {
	s := newSite(t)
	s.use()
	s.app.Get("/", func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		runtime.Goexit()
		return nil
	})
	handler := s.app.Handler()
	done := make(chan struct{})
	go func() {
		defer close(done)
		handler(&fasthttp.RequestCtx{})
	}()
	<-done
	s.wantRows()
	s.wantErrors()
	if n := s.fake.Open(); n != 0 || !strings.Contains(s.log(), "rollback") {
		t.Errorf("%d connections are not back, and the database saw %s", n, s.log())
	}
}

func TestAHandlerThatTheTimeoutMiddlewareGaveUpOnIsRolledBack(t *testing.T) {
	for name, config := range map[string]timeout.Config{
		"with an error":    {Timeout: time.Millisecond},
		"with an own page": {Timeout: time.Millisecond, OnTimeout: func(c fiber.Ctx) error { return c.SendString("later") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			answered, done := make(chan struct{}), make(chan error)
			limited := timeout.New(func(c fiber.Ctx) error {
				<-answered
				done <- drivertest.Exec(c.Context(), s.db, "late")
				return nil
			}, config)
			s.serve(func(c fiber.Ctx) error {
				s.store(c.Context(), "row") // before the time begins to run
				return limited(c)
			})
			resp := s.response(http.MethodPost)
			_ = resp.Body.Close()
			close(answered)
			if err := <-done; !errors.Is(err, dbscope.ErrScopeEnded) {
				t.Errorf("a statement after it returned %v", err)
			}
			s.wantRows()
			s.wantErrors()
		})
	}
}

// The handler is that of docs/testing.md.
func TestRequestsRunInATest(t *testing.T) {
	s := newSite(t)
	t.Run("in a test", func(t *testing.T) {
		testCtx := scopetest.Rollback(t, s.db)
		s.app.Use(func(c fiber.Ctx) error {
			c.SetContext(scopetest.Attach(c.Context(), testCtx))
			return c.Next()
		})
		committed := 0
		s.serve(func(c fiber.Ctx) error {
			s.store(c.Context(), "row")
			return dbscope.AfterCommit(c.Context(), func(context.Context) error { committed++; return nil })
		})
		s.want(s.response(http.MethodPost), 200, "")
		s.want(s.response(http.MethodPost), 200, "")
		if committed != 2 {
			t.Errorf("%d requests were committed", committed)
		}
	})
	s.wantRows()
	if n := strings.Count(s.log(), "begin"); n != 1 || s.fake.Open() != 0 {
		t.Errorf("there were %d transactions, and %d connections are open", n, s.fake.Open())
	}
}

func TestABeforeCommitHookPreventsTheAnswer(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		return errors.Join(c.SendString("done"),
			dbscope.BeforeCommit(c.Context(), func(context.Context) error { return errInjected }))
	})
	s.want(s.response(http.MethodPost), 500, "Internal Server Error")
	s.wantRows()
	s.wantErrors(errInjected)
}

func TestARouteThatDoesNotExistIsNotFound(t *testing.T) {
	s := newSite(t)
	s.use()
	s.app.Get("/elsewhere", func(fiber.Ctx) error { return nil })
	s.url = listen(t, s.app)
	s.want(s.response(http.MethodGet), 404, "Not Found")
	s.wantErrors()
	if s.log() != "" {
		t.Errorf("the database saw %s", s.log())
	}
}

func TestManyRequestsOnOneConnectionHaveScopesOfTheirOwn(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), c.Method())
		if c.Method() == fiber.MethodPut {
			return fiber.ErrConflict
		}
		return nil
	})
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodPut, http.MethodDelete} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		s.want(resp, resp.StatusCode, map[bool]string{true: "Conflict"}[method == http.MethodPut])
	}
	s.wantRows("POST", "DELETE")
}

// A fake database stands for a real one; its statements store rows.
func Example() {
	fake := drivertest.NewFake()
	db := fake.DB()

	place := func(ctx context.Context, order string) error { // knows nothing of fiber
		return drivertest.Exec(ctx, db, order)
	}

	app := fiber.New()
	app.Use(recover.New(), fiberscope.Middleware())
	app.Post("/orders/:id", func(c fiber.Ctx) error {
		id := strings.Clone(c.Params("id")) // fiber uses its bytes again, and the fake keeps it
		if err := place(c.Context(), id); err != nil {
			return err
		}
		if id == "13" {
			return fiber.ErrConflict // takes the order back
		}
		return c.SendStatus(fiber.StatusCreated)
	})

	for _, order := range []string{"12", "13", "14"} {
		r, _ := http.NewRequest(http.MethodPost, "http://shop.example/orders/"+order, http.NoBody)
		answer, err := app.Test(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("order", order, answer.StatusCode)
		_ = answer.Body.Close()
	}
	fmt.Println("stored", fake.Rows())
	// Output:
	// order 12 201
	// order 13 409
	// order 14 201
	// stored [12 14]
}
