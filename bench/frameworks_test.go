package bench

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v5"

	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/ginscope"
)

// BenchmarkGinRequestThatTouchesNoDatabase compares an engine with and without
// the middleware: over real connections, and what the middleware itself takes.
func BenchmarkGinRequestThatTouchesNoDatabase(b *testing.B) {
	gin.SetMode(gin.ReleaseMode)
	engine := func(use ...gin.HandlerFunc) http.Handler {
		e := gin.New()
		e.Use(use...)
		e.GET("/", func(c *gin.Context) {
			c.Writer.Header()["Content-Type"] = contentType
			_, _ = c.Writer.Write(hello)
		})
		return e
	}
	compareServers(b, engine(), engine(ginscope.Middleware()))
}

// BenchmarkEchoRequestThatTouchesNoDatabase is the same for echo.
func BenchmarkEchoRequestThatTouchesNoDatabase(b *testing.B) {
	server := func(use ...echo.MiddlewareFunc) http.Handler {
		e := echo.New()
		e.Logger = slog.New(slog.DiscardHandler)
		e.Use(use...)
		e.GET("/", func(c *echo.Context) error {
			c.Response().Header()["Content-Type"] = contentType
			_, err := c.Response().Write(hello)
			return err
		})
		return e
	}
	compareServers(b, server(), server(echoscope.Middleware()))
}

func compareServers(b *testing.B, plain, scoped http.Handler) {
	b.Run("server", func(b *testing.B) { compare(b, client(b, plain), client(b, scoped)) })
	b.Run("handler", func(b *testing.B) {
		request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", http.NoBody)
		w := discard{http.Header{}}
		compare(b, func() { plain.ServeHTTP(w, request) }, func() { scoped.ServeHTTP(w, request) })
	})
}
