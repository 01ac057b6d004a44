// Package ginscope gives every request of a gin server its own unit of work.
// Everything that the handler does with a [dbscope.DB] is one transaction, also in
// the functions that it passes the request's context to. The transaction is
// committed before the client sees the answer.
//
//	r := gin.New()
//	r.Use(gin.Logger(), gin.Recovery(), ginscope.Middleware())
//
// It is [httpscope] around the rest of gin's chain. The documentation of httpscope
// says how the response is held, and what decides. Handlers pass on
// c.Request.Context(), or the [gin.Context] itself, which leads to the same scope,
// also without gin's ContextWithFallback.
//
// gin uses its contexts again for other requests. So a goroutine that outlives the
// handler must not use one: it could be in another request's scope by then. A copy
// made by c.Copy leads to the scope that is over ([dbscope.ErrScopeEnded]); a new
// unit can be begun with it by [dbscope.Run].
//
// What gin adds:
//
//   - An error that was added with c.Error rolls back, whatever
//     [httpscope.CommitWhen] says. Nothing is sent of a success that the handler
//     had written. The status is then 500, unless a middleware outside answers
//     c.Errors in its own way. A failure that the handler had written is sent.
//   - Inside of the middleware, Status, Size and Written of c.Writer are those of
//     what the handler has written, whether that is held or sent. Middlewares
//     outside see what was sent.
//   - With [httpscope.Retry], each attempt finds the [gin.Context] as the first one
//     did: its keys, errors and place in the chain. No goroutine may use the
//     Context between the attempts; it may use a copy.
//
// Do not call HandleContext of the engine in a handler: gin then goes back to its
// own writer, so that the response is sent at once, and its status decides when the
// handler returns.
package ginscope

import (
	"context"
	"maps"
	"net/http"
	"reflect"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// Middleware returns a middleware that runs each request in a scope of its own.
// It is safe for concurrent use, for a whole engine as for some of its routes.
// Around the rest of the chain it blocks for the commit and until the response
// is passed on.
//
// Place middlewares that recover from panics, answer c.Errors, compress or log
// before it, and those that should see what is still in doubt after it.
func Middleware(opts ...httpscope.Option) gin.HandlerFunc {
	adapter := httpscope.NewAdapter(opts...)
	return func(c *gin.Context) {
		out := &outer{ResponseWriter: c.Writer}
		restore := func() {}
		if adapter.Retries() {
			restore = snapshot(c)
		}
		status, served := http.StatusOK, false
		var left *http.Request // that the chain has put in place of the one it got
		defer func() {
			if left != nil {
				c.Request = left
			}
		}()
		err := adapter.Serve(out, c.Request, func(w http.ResponseWriter, r *http.Request) error {
			served = true
			if w == http.ResponseWriter(out) { // it has no scope of this middleware
				if _, scoped := dbscope.FromContext(r.Context()); scoped || r != c.Request {
					defer swap(c, c.Writer, r, &left)()
				}
				c.Next()
				return nil
			}
			restore()
			if r.Pattern == "" {
				r.Pattern = c.FullPath() // so that the unit has a name
			}
			out.later = false
			errs := len(c.Errors)
			defer swap(c, &writer{w, out, out.Status(), out.Size()}, r, &left)()
			c.Next()
			if status = c.Writer.Status(); len(c.Errors) > errs {
				return c.Errors.Last()
			}
			out.later = !c.Writer.Written()
			w.WriteHeader(status)
			return nil
		})
		if !served { // its body could not be read
			c.Abort()
		}
		if out.due {
			out.WriteHeaderNow()
		}
		if err != nil && !out.Written() {
			if status < http.StatusBadRequest {
				status = http.StatusInternalServerError
			}
			c.Status(status)
		}
	}
}

// swap gives the context the writer and the request, until it is undone. What the
// chain has put in the request's place by then is left for middlewares outside,
// without the scope.
func swap(c *gin.Context, w gin.ResponseWriter, r *http.Request, left **http.Request) (undo func()) {
	writer, request := c.Writer, c.Request
	c.Writer, c.Request = w, r
	unlead := lead(c)
	return func() {
		unlead()
		if *left = nil; c.Request != r {
			*left = c.Request.WithContext(dbscope.WithoutScope(c.Request.Context()))
		}
		c.Writer, c.Request = writer, request
	}
}

// lead makes the context itself lead to what its request's context has, until it is
// undone.
func lead(c *gin.Context) (undo func()) {
	of, scoped := dbscope.FromContext(c.Request.Context())
	if now, _ := dbscope.FromContext(c); scoped && now == of { // as with ContextWithFallback
		return func() {}
	}
	before, _ := c.Get(middleware.FrameworkKey)
	within := middleware.NewFrameworkContext(func() context.Context { return c.Request.Context() })
	c.Set(middleware.FrameworkKey, within)
	return func() {
		within.End()
		c.Set(middleware.FrameworkKey, before) // or nil, since gin before 1.12 cannot delete a key
	}
}

// snapshot keeps the context as it is now. It takes reflection to set a Context
// back: its place in the chain is not exported, and only moves on.
func snapshot(c *gin.Context) (restore func()) {
	now := reflect.ValueOf(c).Elem()
	then, keys := reflect.New(now.Type()).Elem(), maps.Clone(c.Keys)
	then.Set(now)
	return func() {
		now.Set(then)
		c.Keys = maps.Clone(keys)
	}
}
