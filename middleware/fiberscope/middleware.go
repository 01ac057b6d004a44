// Package fiberscope gives every request of a fiber application its own unit of
// work: everything that the handler, and what it calls with c.Context(), does
// with a [dbscope.DB] is one transaction, committed before the client sees the
// answer.
//
//	app := fiber.New()
//	app.Use(recover.New(), fiberscope.Middleware())
//
// fiber sends a response when the handlers have returned, so there is nothing
// to hold back. An error that they return rolls the scope back and goes on to
// fiber's ErrorHandler; see [ShowErrors] for what its client is told. Without one the status decides: under 400 the scope is
// committed, else rolled back; see [CommitWhen]. When the commit fails, the
// response is taken back and the client gets a 500; see [FailurePage]. A panic,
// or [runtime.Goexit], undoes the work; fiber's recover middleware outside sees
// the panic with its stack whole. After [dbscope.MarkRollback] the scope is
// rolled back and the response sent as it is. With [TokenCookie] or
// [TokenHeader] clients read what they have written, where read-only requests
// are served by replicas.
//
// Use c.Context(), not c: fiber's contexts are used again for other requests,
// so that what is passed c is refused, with an error that says so. fasthttp does not tell that a client is gone, so nothing
// cancels it unless the application does.
//
// A net/http handler behind fiber's adaptor finds no scope in its request; with
// HTTPHandlerWithContext it gets this context from LocalContextFromHTTPRequest.
//
// # Streams
//
// A body stream is sent when the scope is over, so that it begins after the
// commit; what it does with a database is not part of the unit. Use
// [dbscope.Run] in it, with a context that the handler took from c before,
// and [dbscope.ReadOnly] to stream rows. The reader that SendStream got is first
// read after the commit. The function that SendStreamWriter got is started at
// once, beside the handler, and may run before the commit: it may not see what
// the handler stores. Rows of the request's scope do not survive its end; so if
// some are open when there is a body stream, the client gets the failure page,
// and the error hook an error that says what to do.
//
// # Slow clients
//
// fiber reads a body before the handlers run, and sends the answer after them, so
// no connection is held while a client takes its time. Bodies over the BodyLimit
// are read by the handlers where the application has StreamRequestBody: its
// ReadTimeout bounds for how long, and its WriteTimeout bounds a unit that is
// begun in a body stream. Without these a slow client keeps a connection for as
// long as it likes; so read the body before the first statement.
//
// # Connections that are taken over
//
// What a connection does that RequestCtx().Hijack or a WebSocket took over
// comes after the commit too, and not where that failed. c.End sends the response at once, whatever
// becomes of the commit: do not use it in a handler that stores something.
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
	ctx, scope := o.policy.Begin(context.WithValue(ctx, ctxKey{}, c), c)
	c.SetContext(ctx)
	defer func() {
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
