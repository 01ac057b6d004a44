package idempotent_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

// writers are handlers, each by the path that it is asked for.
var writers = map[string]http.HandlerFunc{
	"/nothing":     func(http.ResponseWriter, *http.Request) {},
	"/header":      func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "b") },
	"/no-content":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
	"/no-modified": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
	"/redirect":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusSeeOther) },
	"/twice": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>")
		_, _ = w.Write([]byte("\x00\xff</html>"))
	},
	"/copied": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, strings.NewReader(strings.Repeat("x", 50_000)))
	},
	"/content": func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), strings.NewReader("text"))
	},
	"/declared": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		_, _ = io.WriteString(w, "four")
		if _, err := io.WriteString(w, "five"); !errors.Is(err, http.ErrContentLength) {
			panic(fmt.Sprint("writing too much returned ", err))
		}
	},
	"/bodiless": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		if _, err := io.WriteString(w, "five"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(fmt.Sprint("writing a body returned ", err))
		}
	},
	"/late": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-A", "in time")
		w.WriteHeader(http.StatusCreated)
		w.Header().Set("X-A", "too late")
		w.Header().Set("X-B", "too late")
		w.WriteHeader(http.StatusAccepted)
	},
	"/suppressed": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		_, _ = io.WriteString(w, "<html>")
	},
	"/odd": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X-Latin"] = []string{"\xe9\xff", "", "a\r\nb"}
		w.Header()["x-lower"] = []string{"case"}
	},
	"/outer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Vary", "Accept")
		w.Header().Set("X-Outer", "changed")
		w.Header().Del("X-Gone")
		http.SetCookie(w, &http.Cookie{Name: "cart", Value: "1"})
		http.SetCookie(w, &http.Cookie{Name: "cart", Value: "2"})
	},
	"/trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-Count")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
		w.Header().Set("X-Count", "1")
		w.Header().Set(http.TrailerPrefix+"X-More", "2")
		w.Header().Set("X-None", "3")
	},
	"/hints": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
	},
}

// got is all that a client sees of a response.
type got struct {
	status   int
	header   http.Header
	trailer  http.Header
	body     string
	informed int // of informational responses
}

func (s *service) look(path, key string) (g got) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.server.URL+path, http.NoBody)
	must(s.t, err)
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { g.informed++; return nil },
	}))
	resp, err := http.DefaultTransport.RoundTrip(r)
	must(s.t, err)
	body, err := io.ReadAll(resp.Body)
	must(s.t, errors.Join(err, resp.Body.Close()))
	g.status, g.header, g.trailer, g.body = resp.StatusCode, resp.Header, resp.Trailer, string(body)
	if _, has := g.header["Date"]; has {
		g.header.Set("Date", "now")
	}
	return g
}

func TestWhatAClientSeesIsTheSameTheFirstTimeAndEachTimeAfterThat(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	onEach(t, func(t *testing.T, d *opened) {
		visits := 0
		outside := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				visits++
				w.Header().Set("X-Outer", "outer")
				w.Header().Set("X-Gone", "outer")
				w.Header().Set("Vary", "Origin")
				http.SetCookie(w, &http.Cookie{Name: "visit", Value: fmt.Sprint(visits)})
				next.ServeHTTP(w, r)
			})
		}
		calls := 0
		handler := func(w http.ResponseWriter, r *http.Request) {
			calls++
			must(t, d.place(r.Context(), r.URL.Path))
			writers[r.URL.Path](w, r)
		}
		s := serve(t, d, setup{outside: outside}, handler)
		for path := range writers {
			plain, before := s.look(path, ""), calls
			first := s.look(path, path)
			plain.header["Set-Cookie"][0] = first.header["Set-Cookie"][0]
			if !reflect.DeepEqual(plain, first) {
				t.Errorf("%s: with a key the client gets\n%v, without one\n%v", path, first, plain)
			}
			for range 2 {
				again := s.look(path, path)
				if again.header.Get(idempotent.ReplayedHeader) != "true" || !strings.Contains(again.header["Set-Cookie"][0], fmt.Sprint("=", visits)) {
					t.Errorf("%s: the later answer has the headers %v", path, again.header)
				}
				again.header.Del(idempotent.ReplayedHeader)
				again.header["Set-Cookie"][0] = first.header["Set-Cookie"][0]
				again.informed = first.informed // which are of their own time
				if !reflect.DeepEqual(again, first) {
					t.Errorf("%s: later the client gets\n%v, first\n%v", path, again, first)
				}
			}
			if calls != before+1 {
				t.Errorf("%s: %d calls", path, calls-before)
			}
		}
		s.wantNothingTold()
	})
}

func TestAResponseThatCannotBeStoredWholeIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		const limit = 1000
		handler := func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "tea"))
			_, err := io.WriteString(w, strings.Repeat("x", limit))
			must(t, err)
			if r.URL.Path == "/larger" {
				if _, err = w.Write([]byte("x")); !errors.Is(err, idempotent.ErrTooLarge) {
					t.Errorf("writing too much returned %v", err)
				}
			}
		}
		s := serve(t, d, setup{keys: []idempotent.Option{idempotent.MaxResponse(limit)}}, handler)
		s.ask("POST", "/larger", "a", "").want(t, http.StatusInternalServerError, "Internal Server Error")
		s.wantTold(idempotent.ErrTooLarge, "MaxResponse")
		d.wantStored(t, 0, 0)
		s.ask("POST", "/", "a", "").want(t, http.StatusOK, strings.Repeat("x", limit))
		d.wantStored(t, 1, 1)

		// httpscope begins a response that it cannot hold.
		s = serve(t, d, setup{http: []httpscope.Option{httpscope.HoldLimit(limit - 1)}}, func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "tea"))
			if _, err := io.WriteString(w, strings.Repeat("x", limit)); err == nil || !strings.Contains(err.Error(), "as large as MaxResponse") {
				t.Errorf("passing the HoldLimit returned %v", err)
			}
		})
		s.ask("POST", "/", "b", "").want(t, http.StatusInternalServerError, "Internal Server Error")
		s.wantTold(dbscope.ErrRolledBack, "as large as MaxResponse")
		d.wantStored(t, 1, 1)
	})
}

func TestAStreamIsRefusedAndTheHandlerGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{}, func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "tea"))
			control := http.NewResponseController(w)
			_, _ = io.WriteString(w, "one ")
			if err := control.Flush(); !errors.Is(err, http.ErrNotSupported) || !strings.Contains(err.Error(), "stored whole") {
				t.Errorf("Flush returned %v", err)
			}
			if _, _, err := control.Hijack(); !errors.Is(err, http.ErrNotSupported) || !strings.Contains(err.Error(), "stored whole") {
				t.Errorf("Hijack returned %v", err)
			}
			if _, is := w.(http.Flusher); is {
				t.Error("the writer says that it can flush")
			}
			must(t, control.SetWriteDeadline(time.Now().Add(time.Minute))) // of the server's writer
			_, _ = io.WriteString(w, "two")
		})
		first := s.order("a", "")
		first.want(t, http.StatusOK, "one two")
		s.order("a", "").wantSame(t, first)
		d.wantStored(t, 1, 1)
		s.wantNothingTold()
	})
}

// A goroutine that a handler has left behind neither changes what is stored nor races
// with it.
func TestAWriterThatIsKeptDoesNoHarm(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var left sync.WaitGroup
		s := serve(t, d, setup{}, func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "tea"))
			_, _ = io.WriteString(w, "body")
			left.Go(func() {
				for range 100 {
					_, _ = io.WriteString(w, "x")
					w.WriteHeader(http.StatusTeapot)
				}
			})
		})
		first := s.order("a", "")
		left.Wait()
		first.want(t, http.StatusOK, "body")
		s.order("a", "").wantSame(t, first)
	})
}

func TestTheHandlerFindsItsRequestAsItWas(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var pattern string
		outside := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				pattern = r.Pattern + " " + r.PathValue("id")
			})
		}
		mux := http.NewServeMux()
		mux.HandleFunc("POST /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), r.FormValue("item")))
			_, _ = fmt.Fprint(w, r.FormValue("item"), r.ContentLength, slices.Sorted(maps.Keys(r.PostForm)), r.Trailer.Get("X-Sum"))
		})
		s := serve(t, d, setup{outside: outside, keys: []idempotent.Option{idempotent.MaxRequest(20)}}, mux.ServeHTTP)
		form := []string{"Content-Type", "application/x-www-form-urlencoded"}
		first := s.ask("POST", "/orders/1", "a", "item=tea&n=1", form...)
		first.want(t, http.StatusOK, "tea12 [item n]")
		if pattern != "POST /orders/{id} 1" {
			t.Errorf("outside the pattern is %q", pattern)
		}
		s.ask("POST", "/orders/1", "a", "item=tea&n=1", form...).wantSame(t, first)
		s.ask("POST", "/orders/1", "b", "item="+strings.Repeat("t", 16), form...).want(t, http.StatusRequestEntityTooLarge, "too large")
		r, err := http.NewRequest("POST", s.server.URL+"/orders/1", io.LimitReader(zeros{}, 1_000_000)) // of a length that is not told
		must(t, err)
		r.Header.Set("Idempotency-Key", "c")
		resp, err := s.server.Client().Do(r)
		if err == nil {
			must(t, resp.Body.Close())
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("a body that goes on and on was answered with %d", resp.StatusCode)
			}
		}
		d.wantStored(t, 1, 1)
		s.wantNothingTold()
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
