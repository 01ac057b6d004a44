package fiberscope_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/fiberscope"
)

func TestCommitWhenDecidesByRequestAndStatus(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), c.Method())
		switch c.Method() {
		case http.MethodPut:
			c.Status(fiber.StatusNotFound)
		case http.MethodPatch:
			return fiber.ErrNotFound
		}
		return nil
	}, fiberscope.CommitWhen(func(c fiber.Ctx, status int) bool {
		return c.Method() == http.MethodPost && status == 200 || status == 404
	}))
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch} {
		_ = s.response(method).Body.Close()
	}
	s.wantRows(http.MethodPut, http.MethodPost)
}

func TestSafeMethodsGetAReadOnlyScopeOnRequest(t *testing.T) {
	for _, on := range []bool{false, true} {
		opts := []fiberscope.Option{fiberscope.ScopeOptions(dbscope.Isolation(6))}
		if on {
			opts = append(opts, fiberscope.ReadOnlySafeMethods())
		}
		for method, safe := range map[string]bool{
			"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true,
			"POST": false, "PUT": false, "PATCH": false, "DELETE": false,
		} {
			s := newSite(t)
			s.serve(func(c fiber.Ctx) error {
				s.store(c.Context(), "row")
				return nil
			}, opts...)
			_ = s.response(method).Body.Close()
			readOnly, isolated := strings.Contains(s.log(), "read-only"), strings.Contains(s.log(), "Serializable")
			if readOnly != (safe && on) || !isolated {
				t.Errorf("%s with the option %t: read-only %t, the other options count %t", method, on, readOnly, isolated)
			}
		}
	}
}

func TestWithoutAHookErrorsAreLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	app := fiber.New()
	app.Use(fiberscope.Middleware())
	app.Post("/orders", func(c fiber.Ctx) error { return drivertest.Exec(c.Context(), db, "row") })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://shop.example/orders", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := app.Test(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	for _, want := range []string{"level=ERROR", errInjected.Error(), "method=POST", "path=/orders"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not hold %q: %s", want, &log)
		}
	}
}
