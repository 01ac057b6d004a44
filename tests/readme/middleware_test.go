package readme

import (
	"context"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

const (
	value   = "an answer is a value"
	options = "there are no options"
)

// The middleware that the page shows how to write passes the suite.
func TestTheMiddlewareOfOnesOwnConforms(t *testing.T) {
	middlewaretest.Run(t, middlewaretest.Framework{
		Serve: func(t middlewaretest.T, site middlewaretest.Site) string {
			handler := Scoped(func(r *http.Request) (Answer, error) {
				x := &exchange{r: r, answer: Answer{Status: http.StatusOK, Header: http.Header{}}}
				err := site.Handler(x)
				return x.answer, err
			}, func(_ *http.Request, err error) { site.OnError(err) })
			server := httptest.NewUnstartedServer(send(handler, site))
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are meant
			server.Start()
			t.Cleanup(server.Close)
			return server.URL
		},
		Lacks: map[middlewaretest.Ability]string{
			middlewaretest.Flush:         value,
			middlewaretest.Hijack:        value,
			middlewaretest.SetContext:    "a request with another context is another request",
			middlewaretest.ClientTimeout: options,
			middlewaretest.BufferBody:    options,
			middlewaretest.ReadOnly:      options,
			middlewaretest.Unscoped:      options,
			middlewaretest.TokenHeader:   options,
			middlewaretest.Retry:         options,
			middlewaretest.Failures:      "it leaves that out",
		},
	})
}

// send is what such a framework does.
func send(handler Handler, site middlewaretest.Site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				site.Recovered(v)
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		if site.Context != nil {
			r = r.WithContext(site.Context(r.Context()))
		}
		answer, err := handler(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.Status)
		_, _ = w.Write(answer.Body)
	})
}

type exchange struct {
	r      *http.Request
	answer Answer
}

func (x *exchange) Context() context.Context    { return x.r.Context() }
func (x *exchange) Body() io.Reader             { return x.r.Body }
func (x *exchange) SetHeader(key, value string) { x.answer.Header.Set(key, value) }
func (x *exchange) Status(code int)             { x.answer.Status = code }
func (x *exchange) Flush() error                { panic("an answer is a value") }

func (x *exchange) Write(body string) error {
	x.answer.Body = append(x.answer.Body, body...)
	return nil
}
