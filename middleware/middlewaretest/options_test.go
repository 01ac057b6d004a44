package middlewaretest_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/httpsite"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

// deaf is httpscope, which hears not quite what the suite asks for.
func deaf(mishear func(site *middlewaretest.Site)) middlewaretest.Framework {
	return middlewaretest.NetHTTP(func(site middlewaretest.Site) func(http.Handler) http.Handler {
		mishear(&site)
		return httpscope.Middleware(httpsite.Options(site)...)
	})
}

// A handler that waits for its client would do so until the suite loses patience.
const impatient = 500 * time.Millisecond

func TestAMiddlewareThatDoesNotHaveAnOptionFailsTheScenariosAboutIt(t *testing.T) {
	for name, wrong := range map[string]struct {
		mishear   func(*middlewaretest.Site)
		scenarios []string
	}{
		"ClientTimeout": {func(s *middlewaretest.Site) { s.Options.ClientTimeout = -1 }, []string{
			"a client that stops sending loses its unit",
			"a client that stops sending while a goroutine receives loses its unit",
			"a handler that ignores that its client stopped sending is no success",
			"a client that stops reading while rows are open loses its unit",
			"a client that stops reading loses what came after the first flush",
		}},
		"OnError": {func(s *middlewaretest.Site) { s.OnError = func(error) {} }, []string{
			"a client that stops sending loses its unit", "errors of after-hooks are reported",
			"rows that are open at a flush are refused, and not closed",
			"a flush that was refused since rows are open is not forgotten",
		}},
		"BufferBody": {func(s *middlewaretest.Site) { s.Options.BufferBody = 0 }, []string{
			"a body that is too large to be buffered is refused, and no handler called",
		}},
		"ReadOnly": {func(s *middlewaretest.Site) { s.Options.ReadOnly = false }, []string{
			"a request may have a read-only scope", "a read-only scope streams while rows are open",
		}},
		"Unscoped": {func(s *middlewaretest.Site) { s.Options.Unscoped = false }, []string{"a request may have no scope"}},
		"Retry": {func(s *middlewaretest.Site) { s.Options.Retry = false }, []string{
			"a request that met a conflict is served again, with its body",
		}},
		"a scope": {func(s *middlewaretest.Site) { s.Options.Unscoped = true }, []string{
			"what is flushed is sent after the commit", "a dry run streams as it would", "a handler may take the connection over",
		}},
	} {
		t.Run(name, func(t *testing.T) { wantFailures(t, deaf(wrong.mishear), wrong.scenarios) })
	}
}

// hurried sends what it is given at once, past the middleware's writer: nothing
// is decided by then, and nothing is refused.
type hurried struct {
	http.ResponseWriter
	past http.ResponseWriter
}

func (w hurried) Write(p []byte) (int, error) { return w.past.Write(p) }
func (w hurried) WriteHeader(status int)      { w.past.WriteHeader(status) }
func (w hurried) FlushError() error           { return http.NewResponseController(w.past).Flush() }

func (w hurried) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.past).Hijack()
}

func TestAMiddlewareThatDoesNotDecideBeforeTheAnswerBeginsFailsTheScenariosAboutIt(t *testing.T) {
	wantFailures(t, middlewaretest.NetHTTP(func(site middlewaretest.Site) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(past http.ResponseWriter, r *http.Request) {
				httpscope.Middleware(httpsite.Options(site)...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					next.ServeHTTP(hurried{w, past}, r)
				})).ServeHTTP(past, r)
			})
		}
	}), []string{
		"work is committed before the answer",
		"what is flushed is sent after the commit",
		"rows that are open at a flush are refused, and not closed",
		"a flush that was refused since rows are open is not forgotten",
		"a read-only scope keeps no connection from part to part",
		"a handler may take the connection over",
	})
}

func TestAnAnswerThatIsCutOffOrChangedFailsTheScenariosAboutStreams(t *testing.T) {
	wantFailures(t, middlewaretest.NetHTTP(func(site middlewaretest.Site) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return httpscope.Middleware(httpsite.Options(site)...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(mute{w}, r)
			}))
		}
	}), []string{"a dry run streams as it would", "a read-only scope streams while rows are open"})
}

// mute writes half of what it is given.
type mute struct{ http.ResponseWriter }

func (w mute) Write(p []byte) (int, error) {
	_, err := w.ResponseWriter.Write(p[:len(p)/2])
	return len(p), err
}

func (w mute) FlushError() error { return http.NewResponseController(w.ResponseWriter).Flush() }

func wantFailures(t *testing.T, f middlewaretest.Framework, scenarios []string) {
	t.Helper()
	for _, scenario := range scenarios {
		i := 0
		for s := range middlewaretest.Scenarios() {
			if s.Name == scenario {
				i++
				if r := record(s, f); len(r.failures) == 0 {
					t.Errorf("%q passes, or was skipped: %s", scenario, r.skipped)
				}
			}
		}
		if i != 1 {
			t.Errorf("there are %d scenarios %q", i, scenario)
		}
	}
}

// Deadline is soon.
func (r *recorder) Deadline() (time.Time, bool) { return r.began.Add(impatient), true }
