// Package httpscope gives every request of a net/http server its own unit of
// work. Everything that the handler does with a [dbscope.DB] is one transaction,
// also in the functions that it passes the request's context to. The transaction
// is committed before the client sees the answer.
//
//	http.ListenAndServe(addr, httpscope.Middleware()(mux))
//
// # What decides
//
// The response is held until the handler returns. Then the status decides: under
// 400 the scope is committed, otherwise rolled back; see [CommitWhen]. Then the
// response is sent.
//
//   - If the commit fails, the client gets a plain 500 and nothing of the held
//     response; see [FailurePage].
//   - A panic, or [runtime.Goexit], undoes the work and drops the held response.
//     The panic goes on to the middlewares outside with its stack whole.
//   - After [dbscope.MarkRollback] the scope is rolled back, and the handler's
//     response is sent as it is.
//   - The cancellation of the request does not decide. A handler that returns
//     normally with a status under 400 has said that its work is done. It is
//     committed, also if the client is gone by then or [http.TimeoutHandler] has
//     given up. A handler that has noticed the cancellation answers with an error
//     status, or calls [dbscope.MarkRollback], and is undone.
//   - A request whose context has a scope already is passed on untouched: that
//     scope stays in charge.
//
// # Streams
//
// A handler that flushes, hijacks or passes the [HoldLimit] decides at that moment:
// the scope is committed or rolled back by the status so far, and then the bytes
// go out. What the handler does with a database later is a new transaction, which
// ends in the same way when the handler returns. Open rows would not survive the
// commit. So if some are open at that moment, Write and FlushError return an error
// that says what to do, nothing is sent, and the client gets the failure page
// unless the handler panics.
//
// A scope with [dbscope.ReadOnly] can stream while rows are open. Whenever the
// handler flushes or writes while neither rows nor a nested transaction are open,
// its transaction ends. So a handler that needs one snapshot for everything that
// it streams uses [dbscope.Run].
//
// Once the response has begun, a scope holds a connection only while it is needed:
// a read-only one while rows are open, another one from its next statement to its
// end. A handler that streams for long and writes now and then calls
// [dbscope.DB.Commit], which gives the connection back, or uses [dbscope.Run] for
// each part. A trailer that it sets is sent only if its last commit succeeds.
//
// # Slow clients
//
// A client that is slow to send its body, or to read a response that has begun,
// cannot keep a connection for as long as it likes: [ClientTimeout] limits that.
// With [BufferBody] bodies are read before the unit begins.
//
// # Replicas
//
// With [TokenCookie] or [TokenHeader] clients read what they have written, also if
// read-only requests are served by replicas.
package httpscope

import (
	"context"
	"net/http"

	"github.com/dbscope/dbscope"
)

// Middleware returns a middleware that runs each request in a scope of its
// own. It is safe for concurrent use and may wrap several handlers.
//
// Place middlewares that recover from panics, compress or log outside it, and
// those that should see what is still in doubt inside.
func Middleware(opts ...Option) func(http.Handler) http.Handler {
	a := NewAdapter(opts...)
	return func(next http.Handler) http.Handler {
		rest := func(w http.ResponseWriter, r *http.Request) error {
			next.ServeHTTP(w, r)
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = a.Serve(w, r, rest) })
	}
}

// Adapter is for writers of middlewares for frameworks on net/http: it does
// what [Middleware] does around what is not an [http.Handler].
type Adapter struct{ opts *options }

// NewAdapter returns an Adapter, which is safe for concurrent use.
func NewAdapter(opts ...Option) *Adapter { return &Adapter{newOptions(opts)} }

// Retries reports whether Serve may call next again for the same request, as
// with [Retry].
func (a *Adapter) Retries() bool { return a.opts.retry != nil }

// Serve calls next, the rest of the framework's chain, with a writer and a
// request in its place, and blocks until the scope is over and the response
// passed on to outer. Where the request has no scope of the middleware, next
// gets outer and r themselves; with [TokenCookie] or [TokenHeader] it is then r
// with another context, unless that has a scope already.
//
// With [BufferBody] next is not called where the body could not be read; Serve has
// then answered, and returns nil.
//
// An error of next rolls the scope back, whatever [CommitWhen] says, and Serve
// returns it for the framework to answer: a held response that would have been
// committed is dropped with its headers. One that tells of the failure itself
// is sent, and so the framework finds a response that has begun.
func (a *Adapter) Serve(outer http.ResponseWriter, r *http.Request, next func(http.ResponseWriter, *http.Request) error) error {
	ctx, changed := a.opts.policy.ReadYourWrites(r.Context(), r)
	if !a.opts.policy.Scoped(ctx, r) {
		if !changed {
			return next(outer, r)
		}
		in := newInner(ctx, r, false, nil)
		defer in.giveBack()
		return next(outer, in.Request)
	}
	read, ok := a.bufferBody(outer, r)
	if !ok {
		return nil
	}
	body, repeatable := a.keepBody(r, read)
	for number := 1; ; number++ {
		err, again := a.attempt(ctx, outer, r, next, body, repeatable, number)
		if !again {
			return err
		}
	}
}

// attempt serves the request in a scope of the context. It returns the error of
// next, and whether the request is to be served again.
func (a *Adapter) attempt(ctx context.Context, outer http.ResponseWriter, r *http.Request, next func(http.ResponseWriter, *http.Request) error, b *body, repeatable bool, number int) (err error, again bool) {
	var more []dbscope.Option
	if repeatable {
		more = append(more, a.opts.retry)
	}
	of := &requestContext{Context: ctx, outer: r}
	ctx, scope := a.opts.policy.Begin(of, r, more...)
	if repeatable {
		scope.Attempt(number)
	}
	in := newInner(ctx, r, repeatable, b)
	of.request.Store(in.Request)
	w := newWriter(outer, in, scope, a.opts)
	defer w.abandon() // does something only when the handler does not return
	err = next(w, in.Request)
	again = w.finish(err != nil, func(err error) bool {
		return repeatable && in.reading.again() && scope.Again(r.Context(), number, err)
	})
	if again && r.MultipartForm == nil && in.MultipartForm != nil { // else it is not the attempt's
		w.report(in.MultipartForm.RemoveAll())
	}
	return err, again
}
