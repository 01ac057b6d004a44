// Package echoscope gives every request of an echo v5 server its own unit of
// work. Everything that the handler does with a [dbscope.DB] is one transaction,
// also in the functions that it passes the request's context to. The transaction
// is committed before the client sees the answer.
//
//	e := echo.New()
//	e.Use(middleware.RequestLogger(), middleware.Recover(), echoscope.Middleware())
//
// It is [httpscope] around the rest of echo's chain. The documentation of httpscope
// says how the response is held, and what decides. What echo adds:
//
//   - An error that the handler returns rolls back, whatever
//     [httpscope.CommitWhen] says, and goes on to echo's HTTPErrorHandler. Nothing
//     is sent of a success that the handler had written before. A failure that it
//     had written is sent, as in echo.
//   - Inside of the middleware, Status, Size and Committed of the [echo.Response]
//     are those of what the handler has written, whether that is held or sent.
//     Middlewares outside see what was sent. Functions given to Before and After
//     inside are called when the handler writes.
//   - With [httpscope.Retry], each attempt has a response of its own, and finds what
//     the one before it stored in the [echo.Context].
package echoscope

import (
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// Middleware returns a middleware that runs each request in a scope of its own.
// It is safe for concurrent use, for all of a server (Use) as for some of its
// routes. Around the rest of the chain it blocks for the commit and until the
// response is passed on.
//
// Place middlewares that recover from panics, compress or log before it, and
// those that should see what is still in doubt after it.
func Middleware(opts ...httpscope.Option) echo.MiddlewareFunc {
	adapter := httpscope.NewAdapter(opts...)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			var left *http.Request // that the chain has put in place of the one it got
			defer func() {
				if left != nil {
					c.SetRequest(left)
				}
			}()
			return adapter.Serve(c.Response(), c.Request(), func(w http.ResponseWriter, r *http.Request) error {
				if outer := c.Request(); r != outer {
					if _, scoped := dbscope.FromContext(r.Context()); scoped {
						defer c.SetResponse(c.Response())
						c.SetResponse(held(c, w))
					}
					defer swap(c, r, &left)()
				}
				return next(c)
			})
		}
	}
}

// swap gives the context the request, until it is undone. What the chain has put
// in the request's place by then is left for middlewares outside, without the
// scope.
func swap(c *echo.Context, r *http.Request, left **http.Request) (undo func()) {
	request := c.Request()
	c.SetRequest(r)
	return func() {
		if *left = nil; c.Request() != r {
			*left = c.Request().WithContext(dbscope.WithoutScope(c.Request().Context()))
		}
		c.SetRequest(request)
	}
}

// held is a response over w, in the state of the context's.
func held(c *echo.Context, w http.ResponseWriter) *echo.Response {
	held := echo.NewResponse(w, c.Logger())
	if outer, err := echo.UnwrapResponse(c.Response()); err == nil {
		held.Status, held.Size, held.Committed = outer.Status, outer.Size, outer.Committed
	}
	return held
}
