package echoscope_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v5"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope/internal/httpsite"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheMiddlewareConforms(t *testing.T) {
	middlewaretest.Run(t, middlewaretest.Framework{Serve: serve})
}

func TestTheMiddlewareCarriesTokens(t *testing.T) {
	routertest.Run(t, withTokens(httpscope.ReadOnlySafeMethods()))
	routertest.RunUnscoped(t, withTokens(httpscope.Unscoped(func(*http.Request) bool { return true })))
}

func withTokens(opt httpscope.Option) middlewaretest.Framework {
	return middlewaretest.Framework{Serve: func(t middlewaretest.T, site middlewaretest.Site) string {
		return serveWith(t, site, opt, httpscope.TokenCookie(http.Cookie{Name: routertest.Cookie}), httpscope.TokenHeader(routertest.Header))
	}}
}

// serve answers errors with echo's own error handler.
func serve(t middlewaretest.T, site middlewaretest.Site) string { return serveWith(t, site) }

func serveWith(t middlewaretest.T, site middlewaretest.Site, opts ...httpscope.Option) string {
	e := newEcho()
	e.Use(withContext(site.Context), recovery(site.Recovered), outside(site.Outside),
		echoscope.Middleware(append(httpsite.Options(site), opts...)...))
	e.Any("/*", func(c *echo.Context) error { return site.Handler(exchange{c}) })
	return start(t, e).URL
}

func newEcho() *echo.Echo {
	e := echo.New()
	e.Logger = slog.New(slog.DiscardHandler)
	return e
}

func start(t middlewaretest.T, e *echo.Echo) *httptest.Server {
	server := httptest.NewUnstartedServer(e)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are meant
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func withContext(change func(context.Context) context.Context) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			if change != nil {
				c.SetRequest(c.Request().WithContext(change(c.Request().Context())))
			}
			return next(c)
		}
	}
}

// recovery is echo's Recover, which turns what is no error into text, but for
// telling the value; see TestEchosRecoverSeesTheWholeStack for the real one.
func recovery(recovered func(any)) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) (err error) {
			defer func() {
				if v := recover(); v != nil {
					recovered(v)
					err = fmt.Errorf("%v", v)
				}
			}()
			return next(c)
		}
	}
}

// outside tells what the context was and is.
func outside(tell func(before, after context.Context)) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			if before := c.Request().Context(); tell != nil {
				defer func() { tell(before, c.Request().Context()) }()
			}
			return next(c)
		}
	}
}

type exchange struct{ c *echo.Context }

func (x exchange) Context() context.Context    { return x.c.Request().Context() }
func (x exchange) Body() io.Reader             { return x.c.Request().Body }
func (x exchange) SetHeader(key, value string) { x.c.Response().Header().Set(key, value) }
func (x exchange) Status(code int)             { x.c.Response().WriteHeader(code) }

func (x exchange) Write(body string) error {
	_, err := io.WriteString(x.c.Response(), body)
	return err
}

// Flush is echo's, which has no error to return; the next Write has it.
func (x exchange) Flush() error {
	x.c.Response().(http.Flusher).Flush()
	_, err := x.c.Response().Write(nil)
	return err
}

func (x exchange) SetContext(ctx context.Context) { x.c.SetRequest(x.c.Request().WithContext(ctx)) }

func (x exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(x.c.Response()).Hijack()
}
