package echoscope_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/echoscope"
)

// A fake database stands for a real one; its statements store rows.
func Example() {
	fake := drivertest.NewFake()
	db := fake.DB()

	place := func(ctx context.Context, order string) error { // knows nothing of HTTP
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		return tx.Exec(ctx, order)
	}

	e := echo.New()
	e.Use(middleware.Recover(), echoscope.Middleware())
	e.POST("/orders/:id", func(c *echo.Context) error {
		if err := place(c.Request().Context(), c.Param("id")); err != nil {
			return err
		}
		if c.Param("id") == "13" {
			return echo.NewHTTPError(http.StatusConflict, "not that one") // takes the order back
		}
		return c.NoContent(http.StatusCreated)
	})

	for _, order := range []string{"12", "13", "14"} {
		answer := httptest.NewRecorder()
		e.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/orders/"+order, nil))
		fmt.Println("order", order, answer.Code)
	}
	fmt.Println("stored", fake.Rows())
	// Output:
	// order 12 201
	// order 13 409
	// order 14 201
	// stored [12 14]
}
