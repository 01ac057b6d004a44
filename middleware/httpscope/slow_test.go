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
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// impatient is a limit that a client which stops passes soon.
var impatient = httpscope.ClientTimeout(50 * time.Millisecond)

// slowSite is a site whose handler the client keeps waiting.
type slowSite struct {
	*site
	http2 bool
}

// onSlow runs a test over both protocols. wrap is what stands around the
// middleware.
func onSlow(t *testing.T, wrap func(http.Handler) http.Handler, handler func(*slowSite, http.ResponseWriter, *http.Request), test func(*testing.T, *slowSite), opts ...httpscope.Option) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			s := &slowSite{prepare(t), http2}
			scoped := s.wrap(func(w http.ResponseWriter, r *http.Request) { handler(s, w, r) }, append([]httpscope.Option{impatient}, opts...)...)
			if wrap != nil {
				scoped = wrap(scoped)
			}
			s.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { s.ended <- struct{}{} }()
				scoped.ServeHTTP(w, r)
			}), http2)
			test(t, s)
		})
	}
}

const endless = 1 << 30

// trickle sends a request whose body has a byte now and then, so many of them. It
// ends with the last one, unless there is none.
func (s *slowSite) trickle(bytes int) (*http.Response, error) {
	body, send := io.Pipe()
	s.t.Cleanup(func() { _ = send.Close() })
	go func() {
		for range bytes {
			time.Sleep(time.Millisecond)
			if _, err := io.WriteString(send, "x"); err != nil {
				return
			}
		}
		if bytes > 0 {
			_ = send.Close()
		}
	}()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.Client().Transport.RoundTrip(r)
}

// wantSlow checks what the handler gets once its client was too slow.
func (s *slowSite) wantSlow(ctx context.Context, err error) {
	s.t.Helper()
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "raise ClientTimeout") {
		s.t.Errorf("the handler got %v", err)
	}
	if n := s.fake.Open(); n > 0 {
		s.t.Errorf("%d connections are not back", n)
	}
	tx, err := s.db.Session(context.WithoutCancel(ctx))
	if err == nil {
		err = tx.Exec(context.WithoutCancel(ctx), "late")
	}
	if !errors.Is(err, dbscope.ErrRolledBack) || !strings.Contains(err.Error(), "waited for its client") {
		s.t.Errorf("a later statement returned %v", err)
	}
}

// wantTold checks that the error hook was told once.
func (s *slowSite) wantTold() {
	s.t.Helper()
	<-s.ended
	s.wantRows()
	s.wantErrors(os.ErrDeadlineExceeded)
}

// wantCut reads an answer that breaks off.
func (s *slowSite) wantCut(resp *http.Response, err error) {
	s.t.Helper()
	if err != nil {
		return // not even the header came
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		s.t.Errorf("the client got %d and all of an answer of %d bytes", resp.StatusCode, n)
	}
	_ = resp.Body.Close()
}

func TestAClientThatIsSlowToSendItsBodyLosesItsUnit(t *testing.T) {
	for name, read := range map[string]func(w http.ResponseWriter, r *http.Request) error{
		"read": func(_ http.ResponseWriter, r *http.Request) error { _, err := io.ReadAll(r.Body); return err },
		"discarded": func(_ http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(io.Discard, r.Body)
			return err
		},
		"read and written": func(w http.ResponseWriter, r *http.Request) error { _, err := io.Copy(w, r.Body); return err },
		"a form":           func(_ http.ResponseWriter, r *http.Request) error { return r.ParseForm() },
		"in a goroutine": func(_ http.ResponseWriter, r *http.Request) error {
			read := make(chan error)
			go func() { _, err := io.ReadAll(r.Body); read <- err }()
			return <-read
		},
		"limited": func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
			return err
		},
	} {
		for _, bytes := range []int{endless, 0} {
			for _, retry := range []bool{true, false} {
				var opts []httpscope.Option
				if name != "read" && (retry || bytes == 0) {
					continue
				}
				if retry {
					opts = append(opts, httpscope.Retry(quickly, 1<<20))
				}
				t.Run(fmt.Sprintf("%s, %d bytes come, Retry %t", name, bytes, retry), func(t *testing.T) {
					onSlow(t, nil, func(s *slowSite, w http.ResponseWriter, r *http.Request) {
						r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
						s.store(r.Context(), "row")
						s.wantSlow(r.Context(), read(w, r))
						if _, err := io.WriteString(w, "done"); !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("writing the answer returned %v", err)
						}
					}, func(t *testing.T, s *slowSite) {
						resp, err := s.trickle(bytes)
						if err != nil {
							t.Fatal(err)
						}
						s.want(resp.StatusCode, s.read(resp), http.StatusRequestTimeout, "Request Timeout\n")
						s.wantTold()
					}, opts...)
				})
			}
		}
	}
}

func TestAHandlerThatIgnoresThatItsClientWasSlowIsNoSuccess(t *testing.T) {
	for name, end := range map[string]func(w http.ResponseWriter, r *http.Request){
		"returns":            func(http.ResponseWriter, *http.Request) {},
		"answers an error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadRequest) },
		"marks for rollback": func(_ http.ResponseWriter, r *http.Request) { _ = dbscope.MarkRollback(r.Context()) },
		"flushes":            func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
		"takes the connection": func(w http.ResponseWriter, _ *http.Request) {
			if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
				t.Error("it was given")
			}
		},
		"closes the body": func(_ http.ResponseWriter, r *http.Request) { _ = r.Body.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			onSlow(t, nil, func(s *slowSite, w http.ResponseWriter, r *http.Request) {
				s.store(r.Context(), "row")
				_, _ = io.ReadAll(r.Body)
				end(w, r)
			}, func(t *testing.T, s *slowSite) {
				resp, err := s.trickle(endless)
				if err != nil {
					t.Fatal(err)
				}
				s.want(resp.StatusCode, s.read(resp), http.StatusRequestTimeout, "Request Timeout\n")
				s.wantTold()
			})
		})
	}
}

func TestAHandlerThatPanicsSinceItsClientWasSlowAborts(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic(http.ErrAbortHandler) }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			onSlow(t, nil, func(s *slowSite, _ http.ResponseWriter, r *http.Request) {
				s.store(r.Context(), "row")
				_, err := io.ReadAll(r.Body)
				s.wantSlow(r.Context(), err)
				if name == "Goexit" && s.http2 {
					leave = func() { panic(http.ErrAbortHandler) } // the server would never answer
				}
				leave()
			}, func(_ *testing.T, s *slowSite) {
				s.wantCut(s.trickle(endless))
				s.wantTold()
			})
		})
	}
}

// The failure page is the application's, and may look at why.
func TestTheFailurePageIsToldThatTheClientWasSlow(t *testing.T) {
	onSlow(t, nil, func(s *slowSite, _ http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		_, _ = io.ReadAll(r.Body)
	}, func(t *testing.T, s *slowSite) {
		resp, err := s.trickle(0)
		if err != nil {
			t.Fatal(err)
		}
		s.want(resp.StatusCode, s.read(resp), http.StatusTeapot, "slow\n")
		s.wantTold()
	}, httpscope.FailurePage(func(w http.ResponseWriter, _ *http.Request, err error) {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the page is for %v", err)
		}
		http.Error(w, "slow", http.StatusTeapot)
	}))
}

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
