package fiberscope

import (
	"sync/atomic"

	"github.com/gofiber/fiber/v3"
)

// routeName is the name of a request's unit: its method alone until the handlers have
// returned, since the route moves on while they run, and c is another request's later.
type routeName struct {
	method string
	route  atomic.Pointer[string]
}

// found notes the route, unless a handler still uses c.
func (n *routeName) found(c fiber.Ctx) {
	if c.IsAbandoned() {
		return
	}
	name := n.method + " " + c.Route().Path
	n.route.Store(&name)
}

// UnitName implements [middleware.Namer].
func (n *routeName) UnitName() (name string, final bool) {
	if route := n.route.Load(); route != nil {
		return *route, true
	}
	return n.method, false
}
