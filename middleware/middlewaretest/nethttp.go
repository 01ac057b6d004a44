package middlewaretest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
)

// NetHTTP is the [Framework] of a middleware for net/http. The function makes
// the middleware under test with the site's error hook and options.
func NetHTTP(middleware func(site Site) func(http.Handler) http.Handler) Framework {
	return Framework{Lacks: map[Ability]string{
		SetContext: "a request with another context is another request, which nobody outside sees",
	}, Serve: func(t T, site Site) string {
		var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			x := &exchange{w, r}
			if err := site.Handler(x); err != nil {
				http.Error(w, "the handler failed", http.StatusInternalServerError)
			}
		})
		h = recovery(middleware(site)(h), site.Recovered)
		if site.Context != nil {
			h = withContext(h, site.Context)
		}
		server := httptest.NewUnstartedServer(h)
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are meant
		server.Start()
		t.Cleanup(server.Close)
		return server.URL
	}}
}

func recovery(next http.Handler, recovered func(any)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				recovered(v)
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func withContext(next http.Handler, change func(context.Context) context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(change(r.Context())))
	})
}

type exchange struct {
	w http.ResponseWriter
	r *http.Request
}

func (x *exchange) Context() context.Context    { return x.r.Context() }
func (x *exchange) Body() io.Reader             { return x.r.Body }
func (x *exchange) SetHeader(key, value string) { x.w.Header().Set(key, value) }
func (x *exchange) Status(code int)             { x.w.WriteHeader(code) }

func (x *exchange) Write(body string) error {
	n, err := io.WriteString(x.w, body)
	if err == nil && n != len(body) {
		err = errors.New("a short write without an error")
	}
	return err
}

func (x *exchange) Flush() error { return http.NewResponseController(x.w).Flush() }

func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(x.w).Hijack()
}
