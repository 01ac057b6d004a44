// Package middlewaretest is the conformance suite of dbscope's middlewares. It
// runs a framework with its middleware as a real server on loopback, calls it
// with a real client, and checks that a request is one unit of work. A fake
// database records the order of calls.
//
//	func TestConformance(t *testing.T) {
//		middlewaretest.Run(t, middlewaretest.Framework{Serve: serve})
//	}
//
// Whoever writes a middleware writes Serve, which turns the suite's abstract
// handler into one of the framework. The tests of package httpscope have an
// example.
package middlewaretest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Framework is a framework with its middleware.
type Framework struct {
	// Serve starts a server that answers every request as the site says, and
	// returns its URL. The server stops in a cleanup of t. Only its stopping
	// may block.
	Serve func(t T, site Site) (url string)
	// Call sends one request with the body, which may come slowly and fail, and
	// returns when the answer begins. The default is an HTTP POST.
	Call func(ctx context.Context, url string, body io.Reader) (*Answer, error)
	// Lacks holds what the framework cannot do, and which options the middleware
	// does not have, with the reason. Scenarios that need it are reported as
	// skipped.
	Lacks map[Ability]string
}

// Site is what a framework serves for one scenario.
type Site struct {
	// Handler answers a request, behind the middleware. Where it returns an
	// error, the framework answers with status 500; where the framework has
	// no such errors, the code that calls Handler does.
	Handler func(Exchange) error
	// Context, where not nil, changes the context of a request before the
	// middleware sees it.
	Context func(context.Context) context.Context
	// Recovered is told by a recovery outside the middleware, the framework's
	// own where it has one, what a handler panicked with. The recovery answers
	// with status 500.
	Recovered func(value any)
	// Outside, where not nil, is told by a middleware outside the one under test,
	// but inside the recovery, what the request's context was before and is after
	// the rest of the chain, also where that panicked. It is nil where the
	// framework lacks SetContext.
	Outside func(before, after context.Context)
	// OnError is to be the middleware's error hook.
	OnError func(error)
	// Options are those of the middleware.
	Options Options
}

// Options are what a scenario wants of the middleware. The zero value of each is
// the middleware's default; one that the framework lacks is never set.
type Options struct {
	ClientTimeout time.Duration
	BufferBody    int    // bytes at most
	ReadOnly      bool   // every request has a read-only scope
	Unscoped      bool   // no request has a scope
	TokenHeader   string // carries tokens
	Retry         bool   // three times at least, soon, with bodies that are short
}

// Exchange is a request that is being answered, with the methods that every
// framework has in some form. A status is set before the first Write.
type Exchange interface {
	Context() context.Context
	Body() io.Reader // what the client sends
	SetHeader(key, value string)
	Status(code int)
	Write(body string) error
	Flush() error // not called where the framework lacks Flush
}

// ContextSetter is an [Exchange] of a framework that does not lack SetContext.
type ContextSetter interface {
	// SetContext gives the rest of the chain, and middlewares outside when it has
	// returned, another context.
	SetContext(ctx context.Context)
}

// Hijacker is an [Exchange] of a framework that does not lack Hijack.
type Hijacker interface {
	Hijack() (net.Conn, *bufio.ReadWriter, error)
}

// Answer is what the client got. Body yields what arrives as it arrives, and an
// error where it is cut off or ends with a failure.
type Answer struct {
	Status int
	Header func(key string) string
	Body   io.ReadCloser
}

// Ability is what not every framework can do.
type Ability string

// The abilities.
const (
	Flush   Ability = "flush"   // send a part of the body before the handler returns
	Recover Ability = "recover" // recover from panics outside the middleware
	Headers Ability = "headers" // set headers of an answer
	Cancel  Ability = "cancel"  // cancel the context when the client goes away
	Goexit  Ability = "goexit"  // survive a handler that leaves by runtime.Goexit
	Receive Ability = "receive" // give a handler the body as it comes
	Hijack  Ability = "hijack"  // give a handler the connection, as a [Hijacker]

	SetContext Ability = "set context" // let middlewares outside see a handler's context, see [ContextSetter]
)

// The abilities that are the middleware's, which has such [Options].
const (
	ClientTimeout Ability = "the option ClientTimeout"
	BufferBody    Ability = "the option BufferBody"
	ReadOnly      Ability = "the option ReadOnly"
	Unscoped      Ability = "the option Unscoped"
	TokenHeader   Ability = "the option TokenHeader"
	Retry         Ability = "the option Retry"
)

// T is what the suite needs of [*testing.T].
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
}

// Run runs all scenarios as subtests.
func Run(t *testing.T, f Framework) {
	for s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) { s.Run(t, f) })
	}
}

// post is the default of Framework.Call. Connections are not kept, so that
// none is left when the server stops.
func post(ctx context.Context, url string, body io.Reader) (*Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return nil, err
	}
	r.Close = true
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return &Answer{resp.StatusCode, resp.Header.Get, resp.Body}, nil
}
