package echoscope_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/echoscope"
)

func TestAUnitHasTheNameOfItsRoute(t *testing.T) {
	names := make(observetest.Names, 10)
	db := drivertest.NewFake().DB(dbscope.Observe(names))
	e := newEcho()
	e.Use(echoscope.Middleware())
	e.GET("/orders/:id", func(c *echo.Context) error {
		return drivertest.Exec(c.Request().Context(), db, "row")
	})
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/orders/7", nil))
	if got := <-names; got != "GET /orders/:id" {
		t.Errorf("the unit is called %q", got)
	}
}
