// Package steps has the snippets of docs/moving/README.md.
package steps

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/fiberscope"
	"github.com/dbscope/dbscope/middleware/ginscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/scopetest"
)

// overPool makes a DB of the pool that the service has already. AllowUnscoped is
// for the time of the move.
func overPool(pool *sql.DB) *sqlscope.DB {
	return sqlscope.New(func(context.Context, string) (*sql.DB, error) { return pool, nil }, dbscope.AllowUnscoped())
}

// openPgx makes the pool of the DB. Configure lets BEGIN travel with the first
// statement, and has to be called before the pool is made.
func openPgx(url string) *pgxscope.DB {
	return pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(url)
		if err != nil {
			return nil, err
		}
		config.MaxConns = 20
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	})
}

// ready fails the start of the program where the database cannot be reached.
func ready(ctx context.Context, db *sqlscope.DB) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := db.SQL().PingContext(ctx); err != nil {
		return fmt.Errorf("the database cannot be reached: %w", err)
	}
	return nil
}

// testContext is for tests that call use cases and queries without a unit around them.
func testContext(t *testing.T, db *sqlscope.DB) context.Context {
	return scopetest.Fixture(scopetest.Rollback(t, db))
}

func ginRouter(shop *Shop) http.Handler {
	r := gin.New()
	r.Use(gin.Logger(), gin.Recovery(), ginscope.Middleware())
	r.POST("/orders", func(c *gin.Context) {
		if err := shop.PlaceOrder(c.Request.Context(), c.Query("item")); err != nil {
			c.JSON(http.StatusConflict, gin.H{"error": "cannot order"})
			return
		}
		c.Status(http.StatusCreated)
	})
	return r
}

func echoRouter(shop *Shop) http.Handler {
	e := echo.New()
	e.Use(echoscope.Middleware())
	e.POST("/orders", func(c *echo.Context) error {
		if err := shop.PlaceOrder(c.Request().Context(), c.QueryParam("item")); err != nil {
			return echo.NewHTTPError(http.StatusConflict, "cannot order")
		}
		return c.NoContent(http.StatusCreated)
	})
	return e
}

func fiberApp(shop *Shop) *fiber.App {
	app := fiber.New()
	app.Use(fiberscope.Middleware())
	app.Post("/orders", func(c fiber.Ctx) error {
		if err := shop.PlaceOrder(c.Context(), c.Query("item")); err != nil {
			return fiber.NewError(fiber.StatusConflict, "cannot order")
		}
		return c.SendStatus(fiber.StatusCreated)
	})
	return app
}

// withGateway serves a gateway of grpc-gateway that calls the server in this
// process (RegisterOrdersHandlerServer): no interceptor is called then, so the
// unit is begun here.
func withGateway(gateway http.Handler) http.Handler {
	return httpscope.Middleware()(gateway)
}

func main() {
	if err := command(context.Background(), &Shop{}, os.Args[1:]); err != nil {
		slog.Error("shop", "error", err) // nothing is stored
		os.Exit(1)
	}
}

// command is one unit: all items are ordered, or none.
func command(ctx context.Context, shop *Shop, items []string) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		for _, item := range items {
			if err := shop.PlaceOrder(ctx, item); err != nil {
				return fmt.Errorf("ordering %s: %w", item, err)
			}
		}
		return nil
	})
}

// work is a worker: each item is a unit of its own.
func work(ctx context.Context, shop *Shop, items <-chan string) {
	for item := range items {
		err := dbscope.Run(ctx, func(ctx context.Context) error { return shop.PlaceOrder(ctx, item) })
		if err != nil {
			slog.ErrorContext(ctx, "an order was not placed", "item", item, "error", err)
		}
	}
}

// Shop stands for a service.
type Shop struct{}

// PlaceOrder stands for a use case.
func (*Shop) PlaceOrder(context.Context, string) error { return nil }

var _, _, _, _, _, _, _, _, _, _ = fiberApp, testContext, overPool, openPgx, ready, ginRouter, echoRouter, withGateway, main, work
