package fiberscope_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/fiberscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

var lacks = map[middlewaretest.Ability]string{
	middlewaretest.Flush:  "fiber sends nothing before the handlers have returned",
	middlewaretest.Cancel: "fasthttp does not look whether a client is gone while a handler runs",
	middlewaretest.Goexit: "fasthttp loses the goroutine and lets the client wait; see TestGoexitRollsBack",
}

func TestTheMiddlewareConforms(t *testing.T) {
	middlewaretest.Run(t, middlewaretest.Framework{
		Serve: func(t middlewaretest.T, site middlewaretest.Site) string { return serve(t, site) },
		Lacks: lacks,
	})
}

func TestTheMiddlewareCarriesTokens(t *testing.T) {
	routertest.Run(t, withTokens(fiberscope.ReadOnlySafeMethods()))
	routertest.RunUnscoped(t, withTokens(fiberscope.Unscoped(func(fiber.Ctx) bool { return true })))
}

func withTokens(opt fiberscope.Option) middlewaretest.Framework {
	return middlewaretest.Framework{Serve: func(t middlewaretest.T, site middlewaretest.Site) string {
		return serve(t, site, opt, fiberscope.TokenCookie(http.Cookie{Name: routertest.Cookie}), fiberscope.TokenHeader(routertest.Header))
	}, Lacks: lacks}
}

func serve(t middlewaretest.T, site middlewaretest.Site, opts ...fiberscope.Option) (url string) {
	app := fiber.New(fiber.Config{ReadBufferSize: 16 << 10}) // for headers that are too long
	app.Use(recover.New(recover.Config{
		EnableStackTrace:  true,
		StackTraceHandler: func(_ fiber.Ctx, v any) { site.Recovered(v) },
	}))
	if site.Context != nil {
		app.Use(func(c fiber.Ctx) error {
			c.SetContext(site.Context(c.Context()))
			return c.Next()
		})
	}
	app.Use(fiberscope.Middleware(append(opts, fiberscope.OnError(func(_ fiber.Ctx, err error) { site.OnError(err) }))...))
	app.All("/", func(c fiber.Ctx) error { return site.Handler(exchange{c}) })
	return listen(t, app)
}

type exchange struct{ c fiber.Ctx }

func (x exchange) Context() context.Context    { return x.c.Context() }
func (x exchange) SetHeader(key, value string) { x.c.Set(key, value) }
func (x exchange) Status(code int)             { x.c.Status(code) }
func (x exchange) Flush() error                { panic("fiber cannot flush") }

func (x exchange) Write(body string) error {
	_, err := x.c.WriteString(body)
	return err
}

// listen serves the app on loopback until the test ends.
func listen(t middlewaretest.T, app *fiber.App) (url string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		if err := app.Shutdown(); err != nil {
			t.Errorf("%v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("%v", err)
		}
	})
	return "http://" + ln.Addr().String()
}
