package httpscope_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// around are ways to have the middleware around a handler, and none.
var around = map[string]func(http.Handler) http.Handler{
	"bare":      func(h http.Handler) http.Handler { return h },
	"default":   httpscope.Middleware(),
	"retry":     httpscope.Middleware(httpscope.Retry(quickly, 1<<10)),
	"no hold":   httpscope.Middleware(httpscope.HoldLimit(0)),
	"unscoped":  httpscope.Middleware(httpscope.TokenHeader("X-Token"), httpscope.Unscoped(func(*http.Request) bool { return true })),
	"read-only": httpscope.Middleware(httpscope.ReadOnlySafeMethods()),
}

// A logger outside sees what the router and the handler have put into the
// request it passed on.
func TestWhatTheHandlerDidToTheRequestIsSeenOutside(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /shops/{shop}/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		r.SetPathValue("set", "by the handler")
		if r.Method == http.MethodPost {
			_ = r.ParseMultipartForm(1 << 10)
		}
		r.Header.Set("X-User", "7")
		r.Host = "rewritten"
		r.Body = http.MaxBytesReader(w, r.Body, 10)
		if r.FormValue("leave") == "panic" {
			panic("no")
		}
		_, _ = io.WriteString(w, "hello")
	})
	for _, leave := range []string{"return", "panic"} {
		want := ""
		for _, name := range []string{"bare", "default", "retry", "no hold", "unscoped", "read-only"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/shops/tea/a/b?leave="+leave, strings.NewReader("item=1"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			body := r.Body
			func() {
				defer func() { _ = recover() }()
				around[name](mux).ServeHTTP(httptest.NewRecorder(), r)
			}()
			got := fmt.Sprintf("%q %q %q %q %q %q %q %q %T %t", r.Pattern, r.PathValue("shop"), r.PathValue("rest"), r.PathValue("set"),
				r.Form.Encode(), r.PostForm.Encode(), r.Header.Get("X-User"), r.Host, r.Body, r.Body == body)
			if name == "bare" {
				want = got
			}
			if got != want {
				t.Errorf("%s, %s: outside is seen\n     %s\nwant %s", name, leave, got, want)
			}
			if r.Context() != t.Context() {
				t.Errorf("%s, %s: the request's context is not its own any more", name, leave)
			}
		}
	}
}

// sees is an outer writer that looks at the request as the response begins.
type sees struct {
	*httptest.ResponseRecorder
	look func()
}

func (s sees) WriteHeader(status int) {
	s.look()
	s.ResponseRecorder.WriteHeader(status)
}

func TestAnOuterWriterFindsTheRouteAsTheResponseBegins(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /shops/{shop}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello")
		if r.FormValue("flush") != "" {
			w.(http.Flusher).Flush()
		}
	})
	for name, wrap := range around {
		for _, query := range []string{"", "?flush=1"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/shops/tea"+query, http.NoBody)
			looked := 0
			w := sees{httptest.NewRecorder(), func() {
				looked++
				if r.Pattern != "GET /shops/{shop}" {
					t.Errorf("%s, %q: the pattern is %q", name, query, r.Pattern)
				}
			}}
			wrap(mux).ServeHTTP(w, r)
			if looked == 0 && name != "bare" && name != "unscoped" {
				t.Errorf("%s: nobody looked", name)
			}
		}
	}
}

func TestTheRequestsBodyStaysTheServersUnderRetry(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.NopCloser(strings.NewReader("row")))
	body := r.Body
	around["retry"](http.HandlerFunc(func(_ http.ResponseWriter, inner *http.Request) {
		if r.Body != body {
			t.Error("the request outside has another body while the handler runs")
		}
		_, _ = io.Copy(io.Discard, inner.Body)
	})).ServeHTTP(httptest.NewRecorder(), r)
	if r.Body != body {
		t.Error("the request outside has another body afterwards")
	}
}

// A raw client may send trailers that it has not declared; net/http puts them
// into the server's own request.
func TestTrailersOfTheRequestReachTheHandlerAndWhoIsOutside(t *testing.T) {
	for _, declared := range []string{"", "Trailer: X-Sum\r\n"} {
		for name, wrap := range around {
			h := wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				_, _ = fmt.Fprintf(w, "%s %v %q", body, err, slices.Sorted(maps.Keys(r.Trailer)))
			}))
			outside := make(chan string, 1)
			server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				outside <- r.Trailer.Get("X-Sum")
			}), false)
			got := exchange(t, server, "POST / HTTP/1.1\r\nHost: x\r\n"+declared+
				"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrow\r\n0\r\nX-Sum: 42\r\n\r\n")
			if !strings.HasSuffix(got, `row <nil> ["X-Sum"]`) {
				t.Errorf("%s, declared by %q: the client read %q", name, declared, got)
			}
			if sum := <-outside; sum != "42" {
				t.Errorf("%s, declared by %q: outside the trailer is %q", name, declared, sum)
			}
		}
	}
}

// What the handler does after a flush that failed is part of what failed.
func TestNothingOfAFailedUnitLeavesInTrailers(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for name, leave := range map[string]func(){
			"returns": func() {}, "panics": func() { panic("no") },
		} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", name, http2), func(t *testing.T) {
				s := prepare(t)
				s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
				scoped := s.wrap(func(w http.ResponseWriter, r *http.Request) {
					h := w.Header()
					h.Set("Trailer", "X-Sum")
					s.store(r.Context(), "row")
					_, _ = io.WriteString(w, "stored")
					w.(http.Flusher).Flush()
					h.Set("X-Sum", "42")
					h.Set("X-Outer", "of the handler")
					h.Set(http.TrailerPrefix+"X-Early", "secret")
					w.Header().Set(http.TrailerPrefix+"X-Late", "secret")
					leave()
				})
				s.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Trailer", "X-Outer")
					defer func() {
						_ = recover()
						w.Header().Set(http.TrailerPrefix+"X-After", "of the outer")
					}()
					scoped.ServeHTTP(w, r)
				}), http2)
				resp := s.response(http.MethodPost)
				s.want(resp.StatusCode, s.read(resp), 500, page)
				want := http.Header{"X-Outer": nil, "X-After": {"of the outer"}}
				if !reflect.DeepEqual(resp.Trailer, want) {
					t.Errorf("the trailers are %v, want %v", resp.Trailer, want)
				}
			})
		}
	}
}

// A trailer may say that all went well.
func TestTrailersOfALateCommitThatFailsAreNotSent(t *testing.T) {
	for _, fails := range []bool{true, false} {
		s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			w.(http.Flusher).Flush()
			s.store(r.Context(), "late")
			w.Header().Set("X-Sum", "42")
			w.Header().Set(http.TrailerPrefix+"X-Status", "done")
		})
		want := http.Header{"X-Sum": {"42"}, "X-Status": {"done"}}
		if fails {
			s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
			want = http.Header{"X-Sum": nil}
		}
		resp := s.response(http.MethodPost)
		s.want(resp.StatusCode, s.read(resp), 200, "")
		if !reflect.DeepEqual(resp.Trailer, want) {
			t.Errorf("fails %t: the trailers are %v, want %v", fails, resp.Trailer, want)
		}
	}
}
