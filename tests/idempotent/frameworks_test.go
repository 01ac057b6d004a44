package idempotent_test

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v5"

	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/ginscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

// frameworks serve POST /orders/{item} with the middleware: item is placed, "lost" too,
// which is then an error of the handler.
var frameworks = map[string]func(d *opened) http.Handler{
	"chi": func(d *opened) http.Handler {
		r := chi.NewRouter()
		r.Use(httpscope.Middleware())
		r.With(idempotent.Middleware(d.scoped, idempotent.Anybody)).Post("/orders/{item}", func(w http.ResponseWriter, r *http.Request) {
			if err := d.place(r.Context(), chi.URLParam(r, "item")); err != nil || chi.URLParam(r, "item") == "lost" {
				http.Error(w, "lost", http.StatusConflict)
				return
			}
			_, _ = w.Write([]byte(rand.Text()))
		})
		return r
	},
	"gin": func(d *opened) http.Handler {
		engine := gin.New()
		engine.Use(ginscope.Middleware()) // so that c may be passed as a context
		engine.POST("/orders/:item", func(c *gin.Context) {
			if err := d.place(c, c.Param("item")); err != nil || c.Param("item") == "lost" {
				c.AbortWithStatusJSON(http.StatusConflict, gin.H{"error": "lost"})
				return
			}
			c.JSON(http.StatusOK, gin.H{"id": rand.Text()})
		})
		return httpscope.Middleware()(idempotent.Middleware(d.scoped, idempotent.Anybody)(engine))
	},
	"echo": func(d *opened) http.Handler {
		e := echo.New()
		e.POST("/orders/:item", echoHandler(d))
		return httpscope.Middleware()(idempotent.Middleware(d.scoped, idempotent.Anybody)(e))
	},
	"echo, wrapped": func(d *opened) http.Handler {
		e := echo.New()
		e.Use(echoscope.Middleware())
		e.POST("/orders/:item", echoHandler(d), echo.WrapMiddleware(idempotent.Middleware(d.scoped, idempotent.Anybody)))
		return e
	},
}

func echoHandler(d *opened) echo.HandlerFunc {
	return func(c *echo.Context) error {
		err := d.place(c.Request().Context(), c.Param("item"))
		if c.Param("item") == "lost" {
			err = cmp.Or[error](err, echo.NewHTTPError(http.StatusConflict, "lost"))
		}
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, map[string]string{"id": rand.Text()})
	}
}

func TestFrameworksOnNetHTTPDoRequestsOnce(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	for name, framework := range frameworks {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d *opened) {
				server := httptest.NewServer(framework(d))
				t.Cleanup(server.Close)
				s := &service{t: t, opened: d, server: server}
				for range 2 {
					if a := s.ask("POST", "/orders/lost", "a", ""); a.status != http.StatusConflict || a.replayed() {
						t.Errorf("an order that is refused got %v", a)
					}
				}
				first := s.ask("POST", "/orders/tea", "a", "")
				first.want(t, http.StatusOK, "")
				s.ask("POST", "/orders/tea", "a", "").wantSame(t, first)
				s.ask("POST", "/orders/coffee", "a", "").want(t, http.StatusUnprocessableEntity, "already used")
				d.wantStored(t, 1, 1)
			})
		})
	}
}
