package ginscope_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/ginscope"
)

func TestAUnitHasTheNameOfItsRoute(t *testing.T) {
	names := make(observetest.Names, 10)
	_, db := newDB(dbscope.Observe(names))
	e := gin.New()
	e.Use(ginscope.Middleware())
	e.GET("/orders/:id", func(c *gin.Context) {
		if err := drivertest.Exec(c, db, "row"); err != nil {
			t.Error(err)
		}
	})
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/orders/7", nil))
	if got := <-names; got != "GET /orders/:id" {
		t.Errorf("the unit is called %q", got)
	}
}
