package idempotent

import (
	"log/slog"
	"net/http"
	"time"
)

// Option changes a [Middleware].
type Option func(*options)

type options struct {
	header      string
	required    bool
	wait        time.Duration // for the database's own where it is not positive
	maxRequest  int64
	maxResponse int
	headers     []string // that are part of the request
	storeWhen   func(*http.Request, int) bool
	onError     func(*http.Request, error)
	refuse      func(http.ResponseWriter, *http.Request, Problem)
}

// The defaults of the options.
const (
	defaultHeader      = "Idempotency-Key"
	defaultWait        = 5 * time.Second
	defaultMaxRequest  = 1 << 20
	defaultMaxResponse = 64 << 10
)

func newOptions(opts []Option) options {
	o := options{
		header: defaultHeader, wait: defaultWait, maxRequest: defaultMaxRequest, maxResponse: defaultMaxResponse,
		onError: logError, refuse: writeProblem,
	}
	for _, set := range opts {
		set(&o)
	}
	return o
}

// HeaderName is the name of the header that has the key. The default is
// Idempotency-Key.
func HeaderName(name string) Option {
	return func(o *options) { o.header = http.CanonicalHeaderKey(name) }
}

// Required refuses requests without a key, unless they have a safe method or a
// read-only unit, with status 400. The default is to pass them on.
func Required() Option { return func(o *options) { o.required = true } }

// Wait bounds how long a request waits for another one with the same key, by the lock
// timeout of the database; it holds a connection meanwhile. Then it is answered with
// 409, and the client may ask again. MariaDB counts in whole seconds. SQLite, where
// all that write wait for each other, and MySQL wait as long as they are set to. The
// default is 5 seconds; with 0 and less every database does as it is set to.
func Wait(d time.Duration) Option { return func(o *options) { o.wait = d } }

// MaxRequest bounds the body of a request with a key, which is read whole, into
// memory, before the handler is called. A larger one is answered with 413. The default
// is 1 MiB.
func MaxRequest(bytes int64) Option { return func(o *options) { o.maxRequest = max(bytes, 0) } }

// MaxResponse bounds the body of a response to a request with a key. What would pass it
// is refused with [ErrTooLarge], and the unit is rolled back. It must not be larger than
// what httpscope holds, see httpscope.HoldLimit. The default is 64 KiB, as there.
func MaxResponse(bytes int) Option { return func(o *options) { o.maxResponse = max(bytes, 0) } }

// Headers are those of the request that must be the same when a key comes again,
// beside the method, the target and the body. The default is none.
func Headers(names ...string) Option {
	return func(o *options) {
		for _, name := range names {
			o.headers = append(o.headers, http.CanonicalHeaderKey(name))
		}
	}
}

// StoreWhen stores only the responses that it answers true for. The key of another one is
// given up, so that the next request with it is served anew, though the work of this one
// is committed. It is called before the commit, and only for units that are to be
// committed. The default is to store all of these.
func StoreWhen(store func(r *http.Request, status int) bool) Option {
	return func(o *options) { o.storeWhen = store }
}

// OnError is told why a key could not be looked for; the client gets a problem of
// status 500. What goes wrong later fails the commit, and httpscope's option of
// this name is told. The default is [slog.ErrorContext].
func OnError(report func(r *http.Request, err error)) Option {
	return func(o *options) { o.onError = report }
}

// Refuse writes the answers that are not the handler's. Its status must be the
// problem's, so that the unit is rolled back; the header Retry-After is there already.
// The default is the problem's JSON, as RFC 9457 has it.
func Refuse(write func(w http.ResponseWriter, r *http.Request, p Problem)) Option {
	return func(o *options) { o.refuse = write }
}

func logError(r *http.Request, err error) {
	slog.ErrorContext(r.Context(), "the request's key could not be looked for",
		"error", err, "method", r.Method, "path", r.URL.Path)
}
