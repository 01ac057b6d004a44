package httpscope_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// handlers are all that a handler does to a ResponseWriter. None uses a
// database.
func handlers(file string) map[string]http.HandlerFunc {
	text := func(n int) string { return strings.Repeat("some text ", n/10) }
	return map[string]http.HandlerFunc{
		"nothing":           func(http.ResponseWriter, *http.Request) {},
		"headers only":      func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "1") },
		"a short body":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
		"an empty write":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) },
		"a status":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"an error":          func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusConflict) },
		"not found":         http.NotFound,
		"a redirect":        func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusSeeOther) },
		"a body of 2 KiB":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2048)) },
		"a body of 3 KiB":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text(3000)) },
		"a body of 200 KiB": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text(200_000)) },
		"many writes": func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				_, _ = io.WriteString(w, text(200))
			}
		},
		"content to sniff": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<!DOCTYPE ht")
			_, _ = io.WriteString(w, "ml><p>hello")
		},
		"no content type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			w.Header()["Date"] = nil
			_, _ = io.WriteString(w, "<!DOCTYPE html>")
		},
		"an encoded body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "x")
			_, _ = io.WriteString(w, "<!DOCTYPE html>")
		},
		"headers after WriteHeader": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", "before")
			w.Header().Set("X-B", "before")
			w.WriteHeader(http.StatusAccepted)
			w.Header().Set("X-A", "after")
			w.Header().Del("X-B")
			w.Header().Set("X-C", "after")
			_, _ = io.WriteString(w, "hello")
		},
		"headers after a write": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", "before")
			_, _ = io.WriteString(w, "hello")
			w.Header()["X-A"][0] = "after"
			w.Header().Add("X-C", "after")
		},
		"two statuses": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			w.WriteHeader(http.StatusInternalServerError)
		},
		"no content, with a body": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			n, err := fmt.Fprint(w, "hello")
			w.Header().Set(http.TrailerPrefix+"X", "not sent")
			if n != 0 || !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(fmt.Sprint(n, err))
			}
		},
		"not modified": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(http.StatusNotModified)
		},
		"a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		},
		"a body longer than its length": func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 {
				return // the bare writer notices only as it sends
			}
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hel")
			for range 2 {
				if n, err := fmt.Fprint(w, "lo world"); n != 0 || !errors.Is(err, http.ErrContentLength) {
					panic(fmt.Sprint(n, err))
				}
			}
		},
		"a body shorter than its length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "50")
			_, _ = io.WriteString(w, "hello")
		},
		"a length of nonsense": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "five")
			_, _ = io.WriteString(w, "hello")
		},
		"a length for HEAD only": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", "123456")
				w.WriteHeader(http.StatusOK)
			}
		},
		"declared trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "x-sum, X-More")
			w.Header().Add("Trailer", "X-Never")
			_, _ = io.WriteString(w, "hello")
			w.Header().Set("X-Sum", "42")
			w.Header().Set("X-More", "43")
			w.Header().Set("X-Other", "not sent")
		},
		"prefixed trailers after a flush": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "42")
			w.Header().Set("X-Other", "not sent")
		},
		"prefixed trailers after a long body": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, text(5000))
			w.Header().Set(http.TrailerPrefix+"X-Sum", "42")
		},
		"prefixed trailers after a body that passes the limit": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, text(100_000))
			w.Header().Set(http.TrailerPrefix+"X-Sum", "42")
		},
		"early hints": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Link", "</other.css>; rel=preload")
			w.WriteHeader(http.StatusProcessing)
			w.Header().Set("X-A", "1")
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, "hello")
		},
		"a flush first": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", "1")
			w.(http.Flusher).Flush()
			w.Header().Set("X-A", "2")
			_, _ = io.WriteString(w, "hello")
		},
		"flushes": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			for range 3 {
				_, _ = io.WriteString(w, "hello")
				if err := http.NewResponseController(w).Flush(); err != nil {
					panic(err)
				}
			}
		},
		"a status after a flush": func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "hello")
		},
		"a copy":            func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader("hello")) },
		"a copy of nothing": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader("")) },
		"a long copy": func(w http.ResponseWriter, _ *http.Request) {
			n, err := io.Copy(w, io.LimitReader(strings.NewReader(text(150_000)), 140_000))
			if n != 140_000 || err != nil {
				panic(fmt.Sprint(n, err))
			}
		},
		"two copies": func(w http.ResponseWriter, _ *http.Request) {
			for range 2 {
				n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(text(50_000))})
				if n != 50_000 || err != nil {
					panic(fmt.Sprint(n, err))
				}
			}
		},
		"a copy without a body": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("x")}); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		},
		"a file":                  func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) },
		"a file in one piece":     copyFile(file),
		"a panic":                 func(http.ResponseWriter, *http.Request) { panic("no") },
		"an aborted handler":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a panic with bytes held": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello"); panic("no") },
		"an invalid status": func(w http.ResponseWriter, _ *http.Request) {
			defer func() { _, _ = fmt.Fprint(w, recover()) }()
			w.WriteHeader(42)
		},
		"deadlines and full duplex": func(w http.ResponseWriter, _ *http.Request) {
			control := http.NewResponseController(w)
			err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{}), control.EnableFullDuplex())
			_, _ = fmt.Fprint(w, err)
		},
		"a write deadline that has passed": func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)); err != nil {
				panic(err)
			}
			_, _ = io.WriteString(w, "hello")
		},
	}
}

func copyFile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		f, err := os.Open(name)
		if err != nil {
			panic(err)
		}
		defer func() { _ = f.Close() }()
		if _, err := io.Copy(w, f); err != nil {
			panic(err)
		}
	}
}

// seen is what a client sees of an answer.
type seen struct {
	Hints    []string
	Failed   bool
	Status   int
	Length   int64
	Encoding []string
	Header   http.Header
	Body     string
	Cut      bool
	Trailer  http.Header
}

func (s seen) String() string {
	body := s.Body
	if len(body) > 100 {
		body = fmt.Sprintf("%.100s... (%d bytes)", body, len(s.Body))
	}
	return fmt.Sprintf("%q, failed %t, %d, length %d, %v, %v, %q, cut %t, %v",
		s.Hints, s.Failed, s.Status, s.Length, s.Encoding, s.Header, body, s.Cut, s.Trailer)
}

func see(t *testing.T, server *httptest.Server, method, query string) seen {
	var s seen
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			s.Hints = append(s.Hints, fmt.Sprint(code, header))
			return nil
		},
	})
	r, err := http.NewRequestWithContext(ctx, method, server.URL+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Transport.RoundTrip(r)
	if err != nil {
		return seen{Failed: true}
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	_ = resp.Body.Close()
	s.Status, s.Length, s.Encoding, s.Header = resp.StatusCode, resp.ContentLength, resp.TransferEncoding, resp.Header
	s.Body, s.Cut, s.Trailer = body.String(), err != nil, resp.Trailer
	if len(s.Header["Date"]) > 0 {
		s.Header.Set("Date", "today")
	}
	return s
}

func TestAHandlerAnswersAsItWouldWithoutTheMiddleware(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, bytes.Repeat([]byte("0123456789"), 50_000), 0o600); err != nil {
		t.Fatal(err)
	}
	all := handlers(file)
	var bare http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all[r.URL.Query().Get("handler")](w, r)
	})
	for _, http2 := range []bool{false, true} {
		reference := serve(t, bare, http2)
		for variant, wrap := range variants {
			server := serve(t, wrap(bare), http2)
			for name := range all {
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
					query := "/?handler=" + url.QueryEscape(name)
					want, got := see(t, reference, method, query), see(t, server, method, query)
					if !reflect.DeepEqual(got, want) {
						t.Errorf("%s, %s, %s, HTTP/2 %t:\n got %v\nwant %v", name, variant, method, http2, got, want)
					}
				}
			}
		}
	}
}

func serve(t testing.TB, h http.Handler, http2 bool) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = http2
	if http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}
