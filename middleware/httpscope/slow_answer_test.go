package httpscope_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// writes are ways to send much.
func writes(t *testing.T) map[string]func(w http.ResponseWriter) error {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	part, text := make([]byte, 64<<10), strings.Repeat("x", 64<<10)
	return map[string]func(w http.ResponseWriter) error{
		"Write": func(w http.ResponseWriter) error {
			for {
				if _, err := w.Write(part); err != nil {
					return err
				}
			}
		},
		"WriteString": func(w http.ResponseWriter) error {
			for {
				if _, err := io.WriteString(w, text); err != nil {
					return err
				}
			}
		},
		"Flush": func(w http.ResponseWriter) error {
			for {
				_, _ = w.Write(part[:1000])
				if err := http.NewResponseController(w).Flush(); err != nil {
					return err
				}
			}
		},
		"a copy": func(w http.ResponseWriter) error {
			_, err := io.Copy(w, io.LimitReader(zeros{}, 1<<40))
			return err
		},
		"a file": func(w http.ResponseWriter) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			w.Header().Set("Content-Length", fmt.Sprint(64<<20))
			_, err = io.Copy(w, f)
			return err
		},
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// readSlowly asks for the answer and reads none of it until the server has given
// up.
func (s *slowSite) readSlowly() {
	s.t.Helper()
	resp, err := s.Client().Transport.RoundTrip(newRequestTo(s.t, s.URL))
	<-s.ended
	s.ended <- struct{}{}
	s.wantCut(resp, err)
}

func newRequestTo(t testing.TB, url string) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAClientThatIsSlowToReadALongAnswerLosesItsUnit(t *testing.T) {
	all := writes(t)
	for name, write := range all {
		t.Run(name+" while rows are open", func(t *testing.T) {
			onSlow(t, nil, func(s *slowSite, w http.ResponseWriter, r *http.Request) {
				rows := s.query(r.Context())
				s.wantSlow(r.Context(), write(w))
				if _, err := rows.Next(); !errors.Is(err, dbscope.ErrRolledBack) {
					t.Errorf("the next row is %v", err)
				}
			}, func(_ *testing.T, s *slowSite) {
				s.readSlowly()
				s.wantTold()
			}, httpscope.ReadOnlySafeMethods())
		})
		t.Run(name+" in a transaction begun after the first flush", func(t *testing.T) {
			onSlow(t, nil, func(s *slowSite, w http.ResponseWriter, r *http.Request) {
				if name == "a file" {
					w.Header().Set("Content-Length", fmt.Sprint(64<<20))
				}
				w.(http.Flusher).Flush()
				s.store(r.Context(), "row")
				s.wantSlow(r.Context(), write(w))
			}, func(_ *testing.T, s *slowSite) {
				s.readSlowly()
				s.wantTold()
			})
		})
		t.Run(name+" in a unit of its own", func(t *testing.T) {
			onSlow(t, nil, func(s *slowSite, w http.ResponseWriter, r *http.Request) {
				err := dbscope.Run(r.Context(), func(ctx context.Context) error {
					s.store(ctx, "row")
					return write(w)
				})
				s.wantSlow(r.Context(), err)
			}, func(_ *testing.T, s *slowSite) {
				s.readSlowly()
				s.wantTold()
			})
		})
	}
}

// The answer has begun: it must not end as if it were whole.
func TestAnAnswerThatHasBegunIsCutOffWhereTheBodyComesTooSlowly(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"": nil,
		"under a writer that cannot set deadlines": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(onlyFlushes{w}, r) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			onSlow(t, wrap, func(s *slowSite, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Trailer", "X-Done")
				_ = http.NewResponseController(w).EnableFullDuplex()
				_, _ = io.WriteString(w, "begun")
				w.(http.Flusher).Flush()
				s.store(r.Context(), "row")
				_, err := io.ReadAll(r.Body)
				s.wantSlow(r.Context(), err)
				w.Header().Set("X-Done", "yes")
			}, func(_ *testing.T, s *slowSite) {
				s.wantCut(s.trickle(200)) // after which the server, too, stops reading
				s.wantTold()
			})
		})
	}
}

// onlyFlushes hides that a writer can set deadlines.
type onlyFlushes struct{ http.ResponseWriter }

func (w onlyFlushes) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

func (w onlyFlushes) EnableFullDuplex() error {
	return http.NewResponseController(w.ResponseWriter).EnableFullDuplex()
}

// The connection goes back although nothing can wake the handler.
func TestUnderATimeoutHandlerTheConnectionGoesBackBeforeItsTime(t *testing.T) {
	for _, inside := range []bool{false, true} {
		t.Run(fmt.Sprintf("inside %t", inside), func(t *testing.T) {
			back := make(chan struct{})
			handler := func(s *slowSite, w http.ResponseWriter, r *http.Request) {
				s.store(r.Context(), "row")
				go func() {
					for s.fake.Open() > 0 {
						time.Sleep(time.Millisecond)
					}
					back <- struct{}{}
				}()
				_, err := io.ReadAll(r.Body)
				s.wantSlow(r.Context(), err)
			}
			timeout := func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "too late") }
			outside := timeout
			if inside {
				outside = nil
			}
			onSlow(t, outside, func(s *slowSite, w http.ResponseWriter, r *http.Request) {
				if inside {
					timeout(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(s, w, r) })).ServeHTTP(w, r)
				} else {
					handler(s, w, r)
				}
			}, func(t *testing.T, s *slowSite) {
				conn, request := s.dial()
				<-back
				_ = conn.Close()
				_ = request
				s.wantTold()
			})
		})
	}
}

// dial sends a request's head, and promises a body.
func (s *slowSite) dial() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	if s.http2 {
		body, send := io.Pipe()
		ctx, cancel := context.WithCancel(s.t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, body)
		if err != nil {
			s.t.Fatal(err)
		}
		go func() {
			if resp, err := s.Client().Transport.RoundTrip(r); err == nil {
				_ = resp.Body.Close()
			}
		}()
		ours, theirs := net.Pipe()
		context.AfterFunc(ctx, func() { _ = send.Close(); _ = theirs.Close() })
		return closing{ours, cancel}, nil
	}
	conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	if s.TLS != nil {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"); err != nil {
		s.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

type closing struct {
	net.Conn
	cancel func()
}

func (c closing) Close() error { c.cancel(); return c.Conn.Close() }

func TestAClientMayBeSlowWhileNoConnectionIsHeld(t *testing.T) {
	onSlow(t, nil, func(s *slowSite, _ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Errorf("reading returned %v", err)
		}
		s.store(r.Context(), "row")
	}, func(t *testing.T, s *slowSite) {
		resp, err := s.trickle(200)
		if err != nil {
			t.Fatal(err)
		}
		s.want(resp.StatusCode, s.read(resp), 200, "")
		<-s.ended
		s.wantRows("row")
		s.wantErrors()
	})
}

func TestAHijackedConnectionMayWaitForItsClient(t *testing.T) {
	s := &slowSite{site: prepare(t)}
	scoped := s.wrap(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		s.store(r.Context(), "row")
		if line, err := rw.ReadString('\n'); line != "late\n" || err != nil {
			t.Errorf("read %q, %v", line, err)
		}
	}, impatient)
	s.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { s.ended <- struct{}{} }()
		scoped.ServeHTTP(w, r)
	}), false)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	time.Sleep(200 * time.Millisecond)
	_, _ = io.WriteString(conn, "late\n")
	<-s.ended
	s.wantRows("row")
	s.wantErrors()
}

// The limit is passed in a goroutine while the handler commits and flushes, or just
// before or after.
func TestAnAnswerThatIsWholeIsOfWorkThatIsStored(t *testing.T) {
	whole := 0
	for n := range 30 {
		s := &slowSite{site: prepare(t)}
		scoped := s.wrap(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			s.store(r.Context(), "row")
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.ReadAll(r.Body)
			}()
			time.Sleep(time.Duration(n%5) * time.Millisecond)
			_, _ = io.WriteString(w, "done")
			_ = http.NewResponseController(w).Flush()
			if n%2 == 0 {
				<-read
			}
		}, httpscope.ClientTimeout(2*time.Millisecond))
		s.Server = serve(t, scoped, false)
		resp, err := s.trickle(20)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		s.Close()
		if resp.StatusCode == 200 && err == nil {
			whole++
			if string(body) != "done" || len(s.fake.Rows()) != 1 {
				t.Fatalf("the client got %q, and stored is %q", body, s.fake.Rows())
			}
		}
		if s.mu.Lock(); len(s.errs) > 1 || s.fake.Open() > 0 {
			t.Fatalf("the hook was told %q, and %d connections are not back", s.errs, s.fake.Open())
		}
		s.mu.Unlock()
	}
	t.Logf("%d answers were whole", whole)
}
