package httpscope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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
