package fiberscope_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// reader reads what its function returns at the first Read.
type reader struct {
	begin func() string
	text  io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.text == nil {
		r.text = strings.NewReader(r.begin())
	}
	return r.text.Read(p)
}

func TestAStreamsReaderIsReadAfterTheCommit(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		ctx := c.Context()
		s.store(ctx, "early")
		return c.SendStream(&reader{begin: func() string {
			s.wantRows("early")
			if n := s.fake.Open(); n != 0 {
				t.Errorf("%d connections are kept while the answer is streamed", n)
			}
			if err := drivertest.Exec(ctx, s.db, "too late"); !errors.Is(err, dbscope.ErrScopeEnded) {
				t.Errorf("a statement of the request's scope returned %v", err)
			}
			err := dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, s.db, "late") })
			if err != nil {
				t.Error(err)
			}
			return "streamed"
		}})
	})
	s.want(s.response(http.MethodPost), 200, "streamed")
	s.wantRows("early", "late")
	s.wantErrors()
}

func TestAStreamWriterRunsBesideTheHandlerInAUnitOfItsOwn(t *testing.T) {
	s := newSite(t)
	written := make(chan struct{})
	s.serve(func(c fiber.Ctx) error {
		ctx := c.Context()
		s.store(ctx, "handler")
		err := c.SendStreamWriter(func(w *bufio.Writer) {
			defer close(written)
			s.wantRows() // nothing of the handler yet, which waits below
			err := dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, s.db, "writer") })
			if err != nil {
				t.Error(err)
			}
			_, _ = w.WriteString("streamed")
		})
		<-written
		s.wantRows("writer")
		return err
	})
	s.want(s.response(http.MethodPost), 200, "streamed")
	s.wantRows("writer", "handler")
	s.wantErrors()
}

func TestNothingOfAStreamIsSentWhenTheCommitFails(t *testing.T) {
	s := newSite(t)
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	stopped := make(chan struct{})
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		return c.SendStreamWriter(func(w *bufio.Writer) {
			defer close(stopped)
			for err := error(nil); err == nil; err = w.Flush() {
				_, _ = w.WriteString("stored")
			}
		})
	})
	s.want(s.response(http.MethodPost), 500, "Internal Server Error")
	<-stopped
	s.wantErrors(errInjected)
}

func TestAConnectionIsNotTakenOverWhenTheCommitFails(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		c.RequestCtx().HijackSetNoResponse(true)
		c.RequestCtx().Hijack(func(conn net.Conn) { _, _ = io.WriteString(conn, "stored") })
		return c.SendStatus(fiber.StatusSwitchingProtocols)
	})
	talk := func() string {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		answer, read := io.ReadAll(conn)
		if err = errors.Join(err, read, conn.Close()); err != nil {
			t.Error(err)
		}
		return string(answer)
	}
	if got := talk(); got != "stored" {
		t.Errorf("after the commit the client got %q", got)
	}
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	if got := talk(); !strings.HasPrefix(got, "HTTP/1.1 500 ") || strings.Contains(got, "stored") {
		t.Errorf("the client got %q", got)
	}
	s.wantRows("row")
	s.wantErrors(errInjected)
}

func TestRowsOfTheRequestCannotBeStreamed(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		ctx := c.Context()
		s.store(ctx, "row")
		tx, err := s.db.Session(ctx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "all")
		if err != nil {
			return err
		}
		return c.SendStream(&reader{begin: func() string {
			row, _ := rows.Next()
			return row
		}})
	})
	s.want(s.response(http.MethodPost), 500, "Internal Server Error")
	s.wantRows()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) != 1 || !strings.Contains(s.errs[0].Error(), "dbscope.Run") {
		t.Errorf("the error hook was told %q", s.errs)
	}
}
