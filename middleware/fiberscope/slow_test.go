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
	"time"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
)

// fiber reads the body before the handlers run, unless it is told otherwise.
func TestNoConnectionIsHeldWhileABodyArrives(t *testing.T) {
	s := newSite(t)
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), string(c.Body()))
		return nil
	})
	body, send := io.Pipe()
	go func() {
		for range 3 {
			time.Sleep(time.Millisecond)
			if s.log() != "" {
				t.Error("the unit had begun before the body was there")
			}
			_, _ = io.WriteString(send, "x")
		}
		_ = send.Close()
	}()
	resp, err := http.Post(s.url, "text/plain", body) //nolint:noctx // it is short
	if err != nil {
		t.Fatal(err)
	}
	s.want(resp, 200, "")
	s.wantRows("xxx")
}

func TestTheReadTimeoutEndsAUnitWhoseStreamedBodyComesTooSlowly(t *testing.T) {
	s := newSite(t, fiber.Config{StreamRequestBody: true, BodyLimit: 10, ReadTimeout: 100 * time.Millisecond})
	back := make(chan error, 1)
	s.serve(func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		_, err := io.ReadAll(c.Request().BodyStream())
		back <- err
		return err
	})
	conn := s.dial()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 20)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if err := <-back; !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the handler read %v", err)
	}
	_, _ = io.Copy(io.Discard, conn)
	s.wantRows()
	if n := s.fake.Open(); n != 0 {
		t.Errorf("%d connections are not back", n)
	}
}

func TestTheWriteTimeoutEndsAUnitInAStreamThatIsReadTooSlowly(t *testing.T) {
	s := newSite(t, fiber.Config{WriteTimeout: 100 * time.Millisecond})
	ended := make(chan error, 1)
	s.serve(func(c fiber.Ctx) error {
		ctx := c.Context()
		return c.SendStreamWriter(func(w *bufio.Writer) {
			ended <- dbscope.Run(ctx, func(ctx context.Context) error {
				s.store(ctx, "row")
				for {
					if _, err := w.WriteString(strings.Repeat("x", 10_000)); err != nil {
						return err
					}
				}
			})
		})
	})
	conn := s.dial()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("all could be written")
	}
	s.wantRows()
	if n := s.fake.Open(); n != 0 {
		t.Errorf("%d connections are not back", n)
	}
}

func (s *site) dial() net.Conn {
	s.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
