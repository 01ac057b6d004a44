package http_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func TestPassingTheLimitCommitsAndLateWorkIsATransactionOfItsOwn(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.place(r.Context(), 1)) {
				return
			}
			for range 10 {
				if _, err := io.WriteString(w, strings.Repeat("x", 10_000)); err != nil {
					t.Error(err)
				}
			}
			s.wantStored(1)
			late := s.place
			if r.URL.Path == "/lost" {
				late = s.placeLost
			}
			if err := late(r.Context(), 2); err != nil {
				t.Error(err)
			}
		}, nil, http2)
		want := strings.Repeat("x", 100_000)
		resp, body := s.send(server, http.MethodPost, "/")
		s.want(resp, body, 200, want)
		s.wantStored(1, 2)
		s.wantErrors(0)
		_, err := s.engine().ExecContext(t.Context(), "DELETE FROM orders")
		must(t, err)
		resp, body = s.send(server, http.MethodPost, "/lost")
		s.want(resp, body, 200, want)
		s.wantStored(1)
		s.wantErrors(1)
		s.wantNoneInUse()
	})
}

func TestACommitThatFailsAtTheLimitNeverBecomesATruncatedSuccess(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.placeLost(r.Context(), 1)) {
				return
			}
			for range 10 {
				_, _ = io.WriteString(w, strings.Repeat("x", 10_000)) // whatever it returns
			}
			if err := s.place(r.Context(), 2); err != nil {
				t.Error(err)
			}
		}, nil, http2)
		resp, body := s.send(server, http.MethodPost, "/")
		s.want(resp, body, 500, page)
		s.wantStored()
		s.wantErrors(1)
	})
}

func TestOpenRowsInAWritingScopeStopTheStreamAndInAReadOnlyOneDoNot(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		const n = 1000
		_, err := s.engine().ExecContext(t.Context(), "INSERT INTO orders (id) "+
			"WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1000) SELECT id FROM n")
		must(t, err)
		var failures []error
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && !s.check(w, s.place(r.Context(), n+1)) {
				return
			}
			rows, err := s.db.QueryContext(r.Context(), "SELECT id FROM orders WHERE id <= 1000 ORDER BY id")
			if !s.check(w, err) {
				return
			}
			for rows.Next() {
				var id int
				if err := rows.Scan(&id); err != nil {
					t.Error(err)
				}
				if _, err := fmt.Fprintf(w, "order %d\n", id); err != nil {
					failures = append(failures, err)
				}
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				t.Error(err)
			}
		}, nil, http2, httpscope.HoldLimit(100), httpscope.ReadOnlySafeMethods())
		resp, body := s.send(server, http.MethodGet, "/")
		if lines := strings.Count(body, "\n"); resp.StatusCode != 200 || lines != n || !strings.HasSuffix(body, "order 1000\n") {
			t.Errorf("the client got %d and %d lines", resp.StatusCode, lines)
		}
		if len(failures) > 0 {
			t.Errorf("in the read-only scope: %v", failures[0])
		}
		resp, body = s.send(server, http.MethodPost, "/")
		s.want(resp, body, 500, page)
		if len(failures) == 0 || !errors.Is(failures[0], dbscope.ErrSessionBusy) || !strings.Contains(failures[0].Error(), "read-only scope") {
			t.Errorf("in the writing scope: %v", failures)
		}
		if got := s.stored(); len(got) != n {
			t.Errorf("%d orders are stored, want %d", len(got), n)
		}
		s.wantNoneInUse()
	})
}

func TestServerSentEventsArriveOneByOne(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		next := make(chan int)
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			if !s.check(w, s.place(r.Context(), 1)) {
				return
			}
			for id := range next {
				// An event is durable before it is told when it has a scope of
				// its own.
				if id > 1 {
					if err := dbscope.Run(r.Context(), func(ctx context.Context) error { return s.place(ctx, id) }); err != nil {
						t.Error(err)
					}
				}
				_, _ = fmt.Fprintf(w, "data: order %d\n\n", id)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
			}
		}, nil, http2)
		answers := make(chan *http.Response, 1)
		go func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
			if err == nil {
				var resp *http.Response
				if resp, err = server.Client().Do(r); err == nil {
					answers <- resp
				}
			}
			if err != nil {
				t.Error(err)
				close(answers)
			}
		}()
		next <- 1
		resp := <-answers
		if resp == nil {
			return
		}
		events := bufio.NewReader(resp.Body)
		for id := 1; id <= 3; id++ {
			if id > 1 {
				next <- id
			}
			for _, want := range []string{fmt.Sprintf("data: order %d\n", id), "\n"} {
				if line, err := events.ReadString('\n'); line != want || err != nil {
					t.Errorf("the client read %q, %v", line, err)
				}
			}
			if got := s.stored(); len(got) != id {
				t.Errorf("after event %d the orders %v are stored", id, got)
			}
		}
		close(next)
		_, _ = io.Copy(io.Discard, resp.Body)
		must(t, resp.Body.Close())
		s.wantErrors(0)
	})
}

func TestALargeFileIsCopiedAndTheWorkCommitted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "large")
	content := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	must(t, os.WriteFile(name, content, 0o600))
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.place(r.Context(), 1)) {
				return
			}
			if r.URL.Path == "/served" {
				http.ServeFile(w, r, name)
				return
			}
			f, err := os.Open(name)
			if !s.check(w, err) {
				return
			}
			defer func() { _ = f.Close() }()
			if n, err := io.Copy(w, f); n != int64(len(content)) || err != nil {
				t.Errorf("%d bytes were copied, %v", n, err)
			}
		}, nil, http2)
		for _, path := range []string{"/copied", "/served"} {
			_, err := s.engine().ExecContext(t.Context(), "DELETE FROM orders")
			must(t, err)
			resp, body := s.send(server, http.MethodGet, path)
			if resp.StatusCode != 200 || sha256.Sum256([]byte(body)) != sha256.Sum256(content) {
				t.Errorf("the client got %d and %d bytes", resp.StatusCode, len(body))
			}
			s.wantStored(1)
		}
	})
}

func TestAnswersWithoutABodyCommit(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/204" && s.check(w, s.place(r.Context(), 204)):
				w.WriteHeader(http.StatusNoContent)
				if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
					t.Errorf("Write returned %v", err)
				}
			case r.URL.Path == "/304" && s.check(w, s.place(r.Context(), 304)):
				w.WriteHeader(http.StatusNotModified)
			case r.URL.Path == "/head" && s.check(w, s.place(r.Context(), 1)):
				_, _ = io.WriteString(w, "hello")
			case r.URL.Path == "/lost":
				s.check(w, s.placeLost(r.Context(), 2))
				w.WriteHeader(http.StatusNoContent)
			}
		}, nil, http2)
		for _, c := range []struct {
			method, path string
			status       int
			length       int64
		}{
			{http.MethodPost, "/204", 204, 0},
			{http.MethodGet, "/304", 304, 0},
			{http.MethodHead, "/head", 200, 5},
		} {
			resp, body := s.send(server, c.method, c.path)
			s.want(resp, body, c.status, "")
			if c.length > 0 && resp.ContentLength != c.length {
				t.Errorf("%s: the length is %d", c.path, resp.ContentLength)
			}
		}
		s.wantStored(1, 204, 304)
		resp, body := s.send(server, http.MethodPost, "/lost")
		s.want(resp, body, 500, page)
		s.wantStored(1, 204, 304)
	})
}

func TestEarlyHintsGoOutBeforeTheCommitAndTrailersAfterIt(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		hinted := make(chan struct{})
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			<-hinted
			w.Header().Set("Trailer", "X-Sum")
			if s.check(w, s.place(r.Context(), 1)) {
				_, _ = io.WriteString(w, "hello")
				w.Header().Set("X-Sum", "42")
			}
		}, nil, http2)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code != http.StatusEarlyHints || h.Get("Link") == "" {
					t.Errorf("the hint is %d %v", code, h)
				}
				s.wantStored()
				close(hinted)
				return nil
			},
		})
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, http.NoBody)
		must(t, err)
		resp, err := server.Client().Do(r)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		s.want(resp, string(body), 200, "hello")
		if got := resp.Trailer.Get("X-Sum"); got != "42" {
			t.Errorf("the trailer is %q", got)
		}
		s.wantStored(1)
	})
}

func TestDeadlinesReachTheConnection(t *testing.T) {
	past := time.Unix(1, 0)
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		read := make(chan struct{})
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			if err := errors.Join(control.SetReadDeadline(past), control.EnableFullDuplex()); err != nil {
				t.Error(err)
			}
			if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reading after the deadline returned %v", err)
			}
			close(read)
			if err := control.SetWriteDeadline(past); err != nil {
				t.Error(err)
			}
			// The deadline cancels the context of an HTTP/2 request.
			if err := s.place(context.WithoutCancel(r.Context()), 1); err != nil {
				t.Error(err)
			}
		}, nil, http2)
		body, write := io.Pipe()
		go func() {
			<-read
			_ = write.Close() // the client waits for its request to be written
		}()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
		must(t, err)
		if resp, err := server.Client().Do(r); err == nil {
			_ = resp.Body.Close()
			t.Errorf("the client got status %d after the write deadline", resp.StatusCode)
		}
		<-s.ended
		s.wantStored(1) // what was done is done, though nobody could be told
	})
}

func TestAStreamWhoseClientIsGoneCommitsWhatItSaysIsDone(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.place(r.Context(), 1)) {
				return
			}
			w.(http.Flusher).Flush() // which an HTTP/2 client that leaves can still fail
			<-r.Context().Done()
			if err := s.place(context.WithoutCancel(r.Context()), 2); err != nil {
				t.Error(err)
			}
			if r.URL.Path == "/aborts" {
				panic(http.ErrAbortHandler)
			}
		}, nil, http2)
		for _, path := range []string{"/aborts", "/returns"} {
			_, err := s.engine().ExecContext(t.Context(), "DELETE FROM orders")
			must(t, err)
			ctx, leave := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, http.NoBody)
			must(t, err)
			resp, err := server.Client().Do(r)
			must(t, err)
			leave()
			_ = resp.Body.Close()
			<-s.ended
			want := []int{1}
			if path == "/returns" {
				want = append(want, 2)
			}
			if got := s.stored(); !slices.Equal(got, want) {
				t.Errorf("%s: the orders %v are stored, want %v", path, got, want)
			}
			s.wantNoneInUse()
		}
	})
}
