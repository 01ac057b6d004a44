package echoscope_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func TestABodyThatIsTooLargeToBeBufferedEndsTheChain(t *testing.T) {
	var statuses []int
	e := newEcho()
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			err := next(c)
			if resp, unwrap := echo.UnwrapResponse(c.Response()); unwrap == nil {
				statuses = append(statuses, resp.Status)
			}
			return err
		}
	}, echoscope.Middleware(httpscope.BufferBody(3)))
	e.POST("/", func(c *echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		if len(body) > 3 || err != nil {
			t.Errorf("the handler read %q, %v", body, err)
		}
		return c.NoContent(http.StatusCreated)
	})
	server := start(t, e)
	for body, status := range map[string]int{"row": 201, "rows": 413} {
		resp, err := http.Post(server.URL, "text/plain", strings.NewReader(body)) //nolint:noctx // it is short
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != status || status == 413 && (string(text) != "Request Entity Too Large\n" || !resp.Close) {
			t.Errorf("for %q the client got %d %q, close %t", body, resp.StatusCode, text, resp.Close)
		}
		if got := statuses[len(statuses)-1]; got != status {
			t.Errorf("outside the status is %d, want %d", got, status)
		}
	}
}

func TestASlowClientLosesItsUnit(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB()
	told := make(chan error, 2)
	e := newEcho()
	e.Use(echoscope.Middleware(httpscope.ClientTimeout(50*time.Millisecond),
		httpscope.OnError(func(_ *http.Request, err error) { told <- err })))
	e.POST("/", func(c *echo.Context) error {
		ctx := c.Request().Context()
		if err := drivertest.Exec(ctx, db, "row"); err != nil {
			t.Error(err)
		}
		if err := c.Bind(new(any)); !errors.Is(err, os.ErrDeadlineExceeded) || fake.Open() > 0 {
			t.Errorf("binding returned %v, and %d connections are not back", err, fake.Open())
		}
		if err := drivertest.Exec(context.WithoutCancel(ctx), db, "late"); !errors.Is(err, dbscope.ErrRolledBack) {
			t.Errorf("a later statement returned %v", err)
		}
		return c.JSON(http.StatusCreated, "stored")
	})
	body, send := io.Pipe()
	defer func() { _ = send.Close() }()
	resp, err := http.Post(start(t, e).URL, "application/json", body) //nolint:noctx // it is short
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout || string(text) != "Request Timeout\n" {
		t.Errorf("the client got %d %q", resp.StatusCode, text)
	}
	if err := <-told; !errors.Is(err, os.ErrDeadlineExceeded) || len(told) > 0 || len(fake.Rows()) > 0 {
		t.Errorf("told was %v and %d more, stored is %q", err, len(told), fake.Rows())
	}
}
