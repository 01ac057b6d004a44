package ginscope_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope/internal/httpsite"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/ginscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m)
}

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

// serve leaves errors to gin, which answers nothing itself.
func serve(t middlewaretest.T, site middlewaretest.Site) string { return serveWith(t, site) }

func serveWith(t middlewaretest.T, site middlewaretest.Site, opts ...httpscope.Option) string {
	e := gin.New()
	e.Use(withContext(site.Context), gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, v any) {
		site.Recovered(v)
		c.AbortWithStatus(http.StatusInternalServerError)
	}), outside(site.Outside), ginscope.Middleware(append(httpsite.Options(site), opts...)...))
	e.Any("/", func(c *gin.Context) {
		if err := site.Handler(exchange{c}); err != nil {
			_ = c.Error(err)
		}
	})
	return start(t, e).URL
}

func start(t middlewaretest.T, h http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are meant
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func withContext(change func(context.Context) context.Context) gin.HandlerFunc {
	return func(c *gin.Context) {
		if change != nil {
			c.Request = c.Request.WithContext(change(c.Request.Context()))
		}
	}
}

// outside tells what the context was and is.
func outside(tell func(before, after context.Context)) gin.HandlerFunc {
	return func(c *gin.Context) {
		if before := c.Request.Context(); tell != nil {
			defer func() { tell(before, c.Request.Context()) }()
		}
		c.Next()
	}
}

type exchange struct{ c *gin.Context }

func (x exchange) Context() context.Context    { return x.c.Request.Context() }
func (x exchange) Body() io.Reader             { return x.c.Request.Body }
func (x exchange) SetHeader(key, value string) { x.c.Header(key, value) }
func (x exchange) Status(code int)             { x.c.Status(code) }

func (x exchange) Write(body string) error {
	_, err := x.c.Writer.WriteString(body)
	return err
}

// Flush is gin's, which has no error to return; the next Write has it.
func (x exchange) Flush() error {
	x.c.Writer.Flush()
	_, err := x.c.Writer.Write(nil)
	return err
}

func (x exchange) SetContext(ctx context.Context) { x.c.Request = x.c.Request.WithContext(ctx) }

func (x exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) { return x.c.Writer.Hijack() }
