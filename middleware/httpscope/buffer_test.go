package httpscope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// sendBody sends a body, without its length where it is so.
func (s *site) sendBody(body string, length bool) *http.Response {
	s.t.Helper()
	var reader io.Reader = strings.NewReader(body)
	if !length {
		reader = io.MultiReader(reader)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

// stores is a handler that stores the body, after its first statement.
func stores(s *site, _ http.ResponseWriter, r *http.Request) {
	s.store(r.Context(), "first")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("reading the body returned %v", err)
	}
	s.store(r.Context(), string(body))
}

func TestABufferedBodyIsThereBeforeTheUnitBegins(t *testing.T) {
	called := make(chan struct{}, 1)
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		called <- struct{}{}
		stores(s, w, r)
	}, httpscope.BufferBody(1000), httpscope.ClientTimeout(1)) // not a nanosecond is waited for
	body, send := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 20 {
			time.Sleep(time.Millisecond)
			if len(called) > 0 || len(s.fake.Log()) > 0 {
				t.Error("the handler was called before the body was there")
			}
			_, _ = io.WriteString(send, "x")
		}
		_ = send.Close()
	}()
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	s.want(resp.StatusCode, s.read(resp), 200, "")
	s.wantRows("first", strings.Repeat("x", 20))
	s.wantErrors()
}

func TestABodyThatIsTooLargeToBeBufferedIsRefusedWithoutAUnit(t *testing.T) {
	for _, c := range []struct {
		limit, size int
		fits        bool
	}{{10, 10, true}, {10, 11, false}, {0, 0, true}, {0, 1, false}, {-1, 1, false}, {math.MaxInt, 100_000, true}, {10, 300_000, false}} {
		for _, length := range []bool{true, false} {
			for _, http2 := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d of %d bytes, length %t, HTTP/2 %t", c.size, c.limit, length, http2), func(t *testing.T) {
					s := prepare(t)
					s.Server = serve(t, s.wrap(func(w http.ResponseWriter, r *http.Request) { stores(s, w, r) }, httpscope.BufferBody(c.limit)), http2)
					resp := s.sendBody(strings.Repeat("x", c.size), length)
					if c.fits {
						s.want(resp.StatusCode, s.read(resp), 200, "")
						s.wantRows("first", strings.Repeat("x", c.size))
					} else {
						if resp.Close == http2 {
							t.Errorf("the connection is closed: %t", resp.Close)
						}
						s.want(resp.StatusCode, s.read(resp), 413, "Request Entity Too Large\n")
						s.wantRows()
						s.wantLog("")
					}
					s.wantErrors()
				})
			}
		}
	}
}

func TestAClientThatWaitsToSendABodyIsRefusedByItsLength(t *testing.T) {
	s := newSite(t, stores, httpscope.BufferBody(10))
	for length, want := range map[int]string{11: "HTTP/1.1 413 ", 10: "HTTP/1.1 100 "} {
		got := exchange(t, s.Server, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"+
			"Content-Length: %d\r\n\r\n%s", length, strings.Repeat("x", 10)))
		if !strings.HasPrefix(got, want) {
			t.Errorf("for %d bytes the client got %q", length, got)
		}
	}
}

func TestABodyThatCannotBeReadIsRefusedWithoutAUnit(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		want    string
	}{
		"it stays away": {"Content-Length: 10\r\n\r\nrow", "HTTP/1.1 408 "},
		"it is broken":  {"Transfer-Encoding: chunked\r\n\r\n3\r\nrow\r\nnonsense\r\n", "HTTP/1.1 400 "},
	} {
		t.Run(name, func(t *testing.T) {
			s := prepare(t)
			s.Server = httptest.NewUnstartedServer(s.wrap(func(w http.ResponseWriter, r *http.Request) { stores(s, w, r) }, httpscope.BufferBody(10)))
			s.Config.ReadTimeout = 100 * time.Millisecond
			s.Start()
			t.Cleanup(s.Close)
			if got := exchange(t, s.Server, "POST / HTTP/1.1\r\nHost: x\r\n"+c.request); !strings.HasPrefix(got, c.want) {
				t.Errorf("the client got %q", got)
			}
			s.wantLog("")
			s.wantErrors()
		})
	}
}

func TestAClientThatGoesAwayBeforeItsBodyIsThereHasNoUnit(t *testing.T) {
	s := newSite(t, stores, httpscope.BufferBody(10))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nrow")
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	s.wantLog("")
	s.wantErrors()
}

func TestALimitFromOutsideRefusesABufferedBody(t *testing.T) {
	s := prepare(t)
	s.Server = serve(t, http.MaxBytesHandler(s.wrap(func(w http.ResponseWriter, r *http.Request) { stores(s, w, r) }, httpscope.BufferBody(1000)), 10), false)
	for _, length := range []bool{true, false} {
		resp := s.sendBody("more than ten bytes", length)
		s.want(resp.StatusCode, s.read(resp), 413, "Request Entity Too Large\n")
	}
	s.wantLog("")
}

func TestARequestWithoutAUnitOfItsOwnIsNotBuffered(t *testing.T) {
	for name, c := range map[string]struct {
		around func(http.Handler) http.Handler
		opt    httpscope.Option
	}{
		"unscoped": {func(h http.Handler) http.Handler { return h }, httpscope.Unscoped(func(*http.Request) bool { return true })},
		"another unit": {func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := dbscope.Run(r.Context(), func(ctx context.Context) error {
					h.ServeHTTP(w, r.WithContext(ctx))
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}, httpscope.OnError(func(*http.Request, error) {})},
	} {
		t.Run(name, func(t *testing.T) {
			s := prepare(t)
			var body io.ReadCloser
			s.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body = r.Body
				c.around(s.wrap(func(_ http.ResponseWriter, r *http.Request) {
					if r.Body != body {
						t.Errorf("the body is a %T", r.Body)
					}
				}, httpscope.BufferBody(1), c.opt)).ServeHTTP(w, r)
			}), false)
			resp := s.sendBody("much", true)
			s.want(resp.StatusCode, s.read(resp), 200, "")
		})
	}
}

func TestABufferedBodyIsReadAgainByAnotherAttempt(t *testing.T) {
	for limit, attempts := range map[int]int{3: 2, 2: 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			n := 0
			s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
				n++
				stores(s, w, r)
			}, httpscope.BufferBody(1000), httpscope.Retry(quickly, limit))
			s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
			resp := s.sendBody("row", true)
			if attempts == 2 {
				s.want(resp.StatusCode, s.read(resp), 200, "")
				s.wantRows("first", "row")
			} else {
				s.want(resp.StatusCode, s.read(resp), 500, page)
				s.wantRows()
			}
			if n != attempts {
				t.Errorf("there were %d attempts", n)
			}
		})
	}
}
