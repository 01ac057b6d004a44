package bench

import (
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"

	"github.com/dbscope/dbscope/middleware/fiberscope"
)

// BenchmarkFiberThatTouchesNoDatabase compares an application with and without
// the middleware, without a server.
func BenchmarkFiberThatTouchesNoDatabase(b *testing.B) {
	serve := func(middlewares ...any) func() {
		app := fiber.New()
		if len(middlewares) > 0 {
			app.Use(middlewares...)
		}
		app.Get("/", func(c fiber.Ctx) error { return c.Send(hello) })
		handler := app.Handler()
		request := &fasthttp.RequestCtx{}
		request.Request.SetRequestURI("/")
		return func() {
			request.Response.Reset()
			handler(request)
			if len(request.Response.Body()) != len(hello) {
				b.Fatalf("the answer is %q", request.Response.Body())
			}
		}
	}
	pass := func(c fiber.Ctx) error { return c.Next() }
	compare(b, serve(pass), serve(fiberscope.Middleware()))
}
