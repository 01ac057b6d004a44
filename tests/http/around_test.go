package http_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
)

// compressed is a gzip middleware as they are commonly written.
func compressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z := &gzipWriter{ResponseWriter: w}
		defer z.close()
		next.ServeHTTP(z, r)
	})
}

type gzipWriter struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (w *gzipWriter) WriteHeader(status int) {
	if w.z == nil && status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Del("Content-Length")
		w.z = gzip.NewWriter(w.ResponseWriter)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *gzipWriter) Write(p []byte) (int, error) {
	if w.z == nil {
		w.WriteHeader(http.StatusOK)
	}
	return w.z.Write(p)
}

func (w *gzipWriter) FlushError() error {
	if w.z == nil {
		w.WriteHeader(http.StatusOK)
	}
	return errors.Join(w.z.Flush(), http.NewResponseController(w.ResponseWriter).Flush())
}

func (w *gzipWriter) close() {
	if w.z != nil {
		_ = w.z.Close()
	}
}

func TestAGzipMiddlewareWorksOutsideAndInside(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		handler := func(w http.ResponseWriter, r *http.Request) {
			place := s.place
			if strings.HasPrefix(r.URL.Path, "/lost") {
				place = s.placeLost
			}
			if !s.check(w, place(r.Context(), 1)) {
				return
			}
			_, _ = io.WriteString(w, "hello ")
			if strings.HasSuffix(r.URL.Path, "/flush") {
				_ = http.NewResponseController(w).Flush()
			}
			_, _ = io.WriteString(w, "gzip")
		}
		outside := s.start(handler, compressed, http2)
		inside := s.start(compressed(http.HandlerFunc(handler)).ServeHTTP, nil, http2)
		for _, path := range []string{"/stored", "/stored/flush"} {
			_, err := s.engine().ExecContext(t.Context(), "DELETE FROM orders")
			must(t, err)
			resp, body := s.send(outside, http.MethodPost, path)
			s.want(resp, body, 200, "hello gzip")
			if !resp.Uncompressed {
				t.Error("the answer was not compressed")
			}
			_, err = s.engine().ExecContext(t.Context(), "DELETE FROM orders")
			must(t, err)
			resp, body = s.send(inside, http.MethodPost, path)
			s.want(resp, body, 200, "hello gzip")
			if !resp.Uncompressed {
				t.Error("the answer was not compressed")
			}
			s.wantStored(1)
		}
		_, err := s.engine().ExecContext(t.Context(), "DELETE FROM orders")
		must(t, err)
		for _, path := range []string{"/lost", "/lost/flush"} {
			resp, body := s.send(outside, http.MethodPost, path)
			s.want(resp, body, 500, page)
			resp, body = s.send(inside, http.MethodPost, path)
			s.want(resp, body, 500, page)
		}
		s.wantStored()
		s.wantErrors(4)
	})
}

// never is a timeout that does not pass in a test.
const never = time.Hour

func TestATimeoutHandlerOutsideLetsTheWorkThroughInTime(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/lost" {
				s.check(w, s.placeLost(r.Context(), 2))
				return
			}
			if s.check(w, s.place(r.Context(), 1)) {
				_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
				if err := http.NewResponseController(w).Flush(); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("Flush returned %v", err)
				}
			}
		}, func(next http.Handler) http.Handler { return http.TimeoutHandler(next, never, "too late") }, http2)
		resp, body := s.send(server, http.MethodPost, "/")
		s.want(resp, body, 200, strings.Repeat("x", 100_000))
		s.wantStored(1)
		resp, body = s.send(server, http.MethodPost, "/lost")
		s.want(resp, body, 500, page)
		s.wantStored(1)
	})
}

// The timeout is over at once. What the handler makes of that decides.
func TestATimeoutHandlerOutsideThatGivesUpLeavesTheDecisionToTheHandler(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		answered := make(chan struct{}) // TimeoutHandler takes either of two that are ready
		server := s.serve(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			<-answered
			if err := s.place(context.WithoutCancel(r.Context()), 1); err != nil {
				t.Error(err)
			}
			if err := s.place(r.Context(), 2); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a statement after the timeout returned %v", err)
			}
			if r.URL.Path == "/heeds" {
				http.Error(w, "too late", http.StatusServiceUnavailable)
			}
		}, func(next http.Handler) http.Handler { return http.TimeoutHandler(next, 1, "too late") })
		resp, body := s.send(server, http.MethodPost, "/heeds")
		s.want(resp, body, 503, "too late")
		answered <- struct{}{}
		<-s.ended
		s.wantStored()
		resp, body = s.send(server, http.MethodPost, "/")
		s.want(resp, body, 503, "too late")
		answered <- struct{}{}
		<-s.ended
		s.wantStored(1)
		s.wantNoneInUse()
	})
}

func TestATimeoutHandlerInsideRollsBackWhenItGivesUp(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		answered, returned := make(chan struct{}), make(chan struct{})
		slow := func(w http.ResponseWriter, r *http.Request) {
			defer close(returned)
			<-r.Context().Done()
			// By now the scope may be over: then this fails, else it is undone.
			_ = s.place(context.WithoutCancel(r.Context()), 1)
			<-answered // TimeoutHandler takes either of two that are ready
			if err := s.place(context.WithoutCancel(r.Context()), 3); !errors.Is(err, dbscope.ErrScopeEnded) {
				t.Errorf("a statement after the answer returned %v", err)
			}
			_, _ = io.WriteString(w, "done")
		}
		inTime := func(w http.ResponseWriter, r *http.Request) {
			if s.check(w, s.place(r.Context(), 2)) {
				_, _ = io.WriteString(w, "done")
			}
		}
		server := s.start(http.TimeoutHandler(http.HandlerFunc(slow), 1, "too late").ServeHTTP, nil, http2)
		resp, body := s.send(server, http.MethodPost, "/")
		s.want(resp, body, 503, "too late")
		close(answered)
		<-returned
		s.wantStored()
		server = s.start(http.TimeoutHandler(http.HandlerFunc(inTime), never, "too late").ServeHTTP, nil, http2)
		resp, body = s.send(server, http.MethodPost, "/")
		s.want(resp, body, 200, "done")
		s.wantStored(2)
		s.wantErrors(0)
	})
}
