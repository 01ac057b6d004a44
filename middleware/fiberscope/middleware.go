// Package fiberscope gives every request of a fiber application its own unit of
// work. Everything that the handler does with a [dbscope.DB] is one transaction,
// also in the functions that it passes c.Context() to. The transaction is committed
// before the client sees the answer.
//
//	app := fiber.New()
//	app.Use(recover.New(), fiberscope.Middleware())
//
// # What decides
//
// fiber sends a response when the handlers have returned, so nothing needs to be
// held back.
//
//   - An error that the handlers return rolls the scope back, and goes on to
//     fiber's ErrorHandler; see [ShowErrors] for what the client is told.
//   - Without an error the status decides: under 400 the scope is committed,
//     otherwise rolled back; see [CommitWhen].
//   - If the commit fails, the response is taken back and the client gets a 500;
//     see [FailurePage].
//   - A panic, or [runtime.Goexit], undoes the work. fiber's recover middleware
//     outside sees the panic with its stack whole.
//   - After [dbscope.MarkRollback] the scope is rolled back, and the response is
//     sent as it is.
//
// With [TokenCookie] or [TokenHeader] clients read what they have written, also if
// read-only requests are served by replicas.
//
// # The context
//
// Use c.Context(), not c. fiber uses its contexts again for other requests, so a
// statement that gets c is refused, with an error that says so. fasthttp does not
// tell when a client is gone, so nothing cancels the context unless the application
// does.
//
// A net/http handler behind fiber's adaptor finds no scope in its request. With
// HTTPHandlerWithContext it gets this context from LocalContextFromHTTPRequest.
//
// # Streams
//
// A body stream is sent when the scope is over, so it begins after the commit. What
// it does with a database is not part of the unit: use [dbscope.Run] in it, with a
// context that the handler took from c before, and [dbscope.ReadOnly] to stream
// rows.
//
//   - The reader that SendStream got is first read after the commit.
//   - The function that SendStreamWriter got is started at once, beside the
//     handler. It may run before the commit, and may not see what the handler
//     stores.
//   - Rows of the request's scope do not survive its end. If some are open when
//     there is a body stream, the client gets the failure page, and OnError an
//     error that says what to do.
//
// # Slow clients
//
// fiber reads a body before the handlers run, and sends the answer after them, so
// no connection is held while a client takes its time. If the application has
// StreamRequestBody, bodies over the BodyLimit are read by the handlers. Then the
// application's ReadTimeout limits how long that takes, and its WriteTimeout limits
// a unit that is begun in a body stream. Without these limits a slow client keeps a
// connection for as long as it likes; so read the body before the first statement.
//
// # Connections that are taken over
//
// RequestCtx().Hijack and WebSockets take a connection over after the commit, and
// only if it succeeded. c.End sends the response at once, whatever becomes of the
// commit: do not use it in a handler that stores something.
package fiberscope

import (
	"context"
	"errors"
	"reflect"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
)

// Middleware returns a middleware that runs each request in a scope of its own.
// It is safe for concurrent use. A request whose context has a scope already is
// passed on untouched: that scope stays in charge.
//
// Place middlewares that recover from panics, compress or log outside it, that
// is before it. One that limits the time goes inside: what it gave up on is
// rolled back.
func Middleware(opts ...Option) fiber.Handler {
	o := newOptions(opts)
	return func(c fiber.Ctx) error {
		c.RequestCtx().SetUserValue(middleware.FrameworkKey, passedItself)
		outer := c.Context()
		ctx, changed := o.policy.ReadYourWrites(outer, c)
		if o.policy.Scoped(ctx, c) {
			return o.serve(ctx, c)
		}
		if changed {
			defer restore(c, outer, ctx)
			c.SetContext(ctx)
		}
		return o.mask(c, c.Next())
	}
}

// restore gives the request its context back, unless a handler still uses it.
// One that the handlers have set in place of inner is left for middlewares
// outside, without the scope.
func restore(c fiber.Ctx, outer, inner context.Context) {
	if c.IsAbandoned() {
		return
	}
	if now := c.Context(); now != inner {
		outer = dbscope.WithoutScope(now)
	}
	c.SetContext(outer)
}

// passedItself is what c answers with. Boxed once, it costs nothing.
var passedItself any = middleware.RefusedContext("fiber's c was passed as a context: pass c.Context(), " +
	"since fiber uses c again for other requests")

type ctxKey struct{}

// serve calls the handlers in a scope of the context. The deferred part undoes
// what Finish has not committed, also when they do not return.
func (o *options) serve(ctx context.Context, c fiber.Ctx) error {
	outer := c.Context()
	before := fasthttp.AcquireResponse()
	c.Response().Header.CopyTo(&before.Header)
	name := &routeName{method: c.Method()}
	ctx, scope := o.policy.Begin(middleware.WithName(context.WithValue(ctx, ctxKey{}, c), name), c)
	c.SetContext(ctx)
	defer func() {
		name.found(c)
		o.policy.Report(c, scope.End(ctx))
		fasthttp.ReleaseResponse(before)
		if token := o.policy.NewToken(ctx); token != "" && !c.IsAbandoned() {
			o.token.Put(token, c.Set, c.Response().Header.Add)
		}
		restore(c, outer, ctx)
	}()
	if err := c.Next(); err != nil {
		return o.mask(c, err)
	}
	if c.IsAbandoned() { // what still runs has not succeeded
		return nil
	}
	name.found(c) // before the unit is over, whose observers are told
	err := o.decide(ctx, scope, c)
	if err == nil {
		return nil
	}
	o.policy.Report(c, err)
	c.RequestCtx().Hijack(nil)
	c.Response().Reset()
	before.Header.CopyTo(&c.Response().Header)
	return o.failure(c, err)
}

// mask is what goes on of a handler's error. fiber's own ErrorHandler sends the
// text of any error to the client; one of the application's decides for itself.
func (o *options) mask(c fiber.Ctx, err error) error {
	var own *fiber.Error
	if err == nil || errors.As(err, &own) || o.policy.Shows(err) || c.IsAbandoned() ||
		reflect.ValueOf(c.App().Config().ErrorHandler).Pointer() != defaultHandler {
		return err
	}
	o.policy.Report(c, err)
	return middleware.Masked(err, fiber.StatusInternalServerError, fiber.ErrInternalServerError.Message)
}

var defaultHandler = reflect.ValueOf(fiber.DefaultErrorHandler).Pointer()

var errStream = errors.New("fiberscope: the response is a stream, and rows are open in the request's scope, " +
	"which ends before it is sent: close the rows first, or use dbscope.Run in the stream")

func (o *options) decide(ctx context.Context, scope middleware.Scope, c fiber.Ctx) error {
	if c.Response().IsBodyStream() && scope.Busy() {
		return errStream
	}
	return o.policy.Finish(ctx, scope, c, c.Response().StatusCode())
}
