package fiberscope_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/fiberscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

var lacks = map[middlewaretest.Ability]string{
	middlewaretest.Flush:  "fiber sends nothing before the handlers have returned",
	middlewaretest.Cancel: "fasthttp does not look whether a client is gone while a handler runs",
	middlewaretest.Goexit: "fasthttp loses the goroutine and lets the client wait; see TestGoexitRollsBack",

	middlewaretest.Receive:       "fiber reads bodies before the handlers run",
	middlewaretest.Hijack:        "fasthttp hands connections over after the handlers have returned",
	middlewaretest.ClientTimeout: "no connection is held while fiber reads a body or sends an answer",
	middlewaretest.BufferBody:    "fiber does that itself",
	middlewaretest.Retry:         "there is no such option",
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
	if site.Outside != nil {
		app.Use(func(c fiber.Ctx) error {
			before := c.Context()
			defer func() { site.Outside(before, c.Context()) }()
			return c.Next()
		})
	}
	app.Use(fiberscope.Middleware(append(options(site), opts...)...))
	app.All("/", func(c fiber.Ctx) error { return site.Handler(exchange{c}) })
	return listen(t, app)
}

func options(site middlewaretest.Site) []fiberscope.Option {
	opts := []fiberscope.Option{fiberscope.OnError(func(_ fiber.Ctx, err error) { site.OnError(err) })}
	if site.Options.ReadOnly {
		opts = append(opts, fiberscope.ScopeOptions(dbscope.ReadOnly()))
	}
	if site.Options.Unscoped {
		opts = append(opts, fiberscope.Unscoped(func(fiber.Ctx) bool { return true }))
	}
	if name := site.Options.TokenHeader; name != "" {
		opts = append(opts, fiberscope.TokenHeader(name))
	}
	return opts
}

type exchange struct{ c fiber.Ctx }

func (x exchange) Context() context.Context       { return x.c.Context() }
func (x exchange) SetContext(ctx context.Context) { x.c.SetContext(ctx) }
func (x exchange) Body() io.Reader                { return bytes.NewReader(x.c.Body()) }
func (x exchange) SetHeader(key, value string)    { x.c.Set(key, value) }
func (x exchange) Status(code int)                { x.c.Status(code) }
func (x exchange) Flush() error                   { panic("fiber cannot flush") }

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
