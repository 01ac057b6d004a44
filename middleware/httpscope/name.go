package httpscope

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/dbscope/dbscope/internal/watch"
)

// requestContext is the context around a request's scope. It leads to the request, and
// knows the route once the request has come there.
type requestContext struct {
	context.Context
	outer   *http.Request
	request atomic.Pointer[http.Request] // that the handler gets, and a mux notes its pattern in
}

// Value implements [context.Context].
func (c *requestContext) Value(key any) any {
	switch key.(type) {
	case requestKey:
		return c.outer
	case watch.NamerKey:
		return c
	}
	return c.Context.Value(key)
}

// UnitName implements [middleware.Namer]: the method and the pattern of the mux that
// is inside or outside of the middleware, or the method alone.
func (c *requestContext) UnitName() (name string, final bool) {
	r := c.request.Load()
	if r == nil {
		r = c.outer
	}
	if r.Pattern == "" {
		return r.Method, false
	}
	inside := r.Pattern != c.outer.Pattern // else a mux inside may still come to another one
	if strings.Contains(r.Pattern, " ") {  // it has the method
		return r.Pattern, inside
	}
	return r.Method + " " + r.Pattern, inside
}
