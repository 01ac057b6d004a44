package fiberscope_test

import (
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/fiberscope"
)

func TestAUnitHasTheNameOfItsRoute(t *testing.T) {
	names := make(observetest.Names, 10)
	db := drivertest.NewFake().DB(dbscope.Observe(names))
	app := fiber.New()
	app.Use(fiberscope.Middleware())
	app.Get("/orders/:id", func(c fiber.Ctx) error { return drivertest.Exec(c.Context(), db, "row") })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.example/orders/7", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Test(r); err != nil {
		t.Fatal(err)
	}
	if got := <-names; got != "GET /orders/:id" {
		t.Errorf("the unit is called %q", got)
	}
}
