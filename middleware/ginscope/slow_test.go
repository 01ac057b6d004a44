package ginscope_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/ginscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func TestABodyThatIsTooLargeToBeBufferedEndsTheChain(t *testing.T) {
	var statuses []int
	e := gin.New()
	e.Use(func(c *gin.Context) {
		c.Next()
		statuses = append(statuses, c.Writer.Status())
	}, ginscope.Middleware(httpscope.BufferBody(3)))
	e.POST("/", func(c *gin.Context) {
		body, err := io.ReadAll(c.Request.Body)
		if len(body) > 3 || err != nil {
			t.Errorf("the handler read %q, %v", body, err)
		}
		c.Status(http.StatusCreated)
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
	e := gin.New()
	e.Use(ginscope.Middleware(httpscope.ClientTimeout(50*time.Millisecond),
		httpscope.OnError(func(_ *http.Request, err error) { told <- err })))
	e.POST("/", func(c *gin.Context) {
		ctx := c.Request.Context()
		if err := drivertest.Exec(ctx, db, "row"); err != nil {
			t.Error(err)
		}
		if err := c.ShouldBindJSON(new(any)); !errors.Is(err, os.ErrDeadlineExceeded) || fake.Open() > 0 {
			t.Errorf("binding returned %v, and %d connections are not back", err, fake.Open())
		}
		if err := drivertest.Exec(context.WithoutCancel(ctx), db, "late"); !errors.Is(err, dbscope.ErrRolledBack) {
			t.Errorf("a later statement returned %v", err)
		}
		c.JSON(http.StatusCreated, "stored")
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
