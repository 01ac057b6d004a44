package ginscope_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/ginscope"
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

	r := gin.New()
	r.Use(gin.Recovery(), ginscope.Middleware())
	r.POST("/orders/:id", func(c *gin.Context) {
		if err := place(c.Request.Context(), c.Param("id")); err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		if c.Param("id") == "13" {
			c.JSON(http.StatusConflict, gin.H{"error": "not that one"}) // takes the order back
			return
		}
		c.Status(http.StatusCreated)
	})

	for _, order := range []string{"12", "13", "14"} {
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/orders/"+order, nil))
		fmt.Println("order", order, answer.Code)
	}
	fmt.Println("stored", fake.Rows())
	// Output:
	// order 12 201
	// order 13 409
	// order 14 201
	// stored [12 14]
}
