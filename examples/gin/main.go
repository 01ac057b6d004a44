// Gin is a small shop on gin, where each request is one transaction:
//
//	go run ./examples/gin
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/gin
//
// This file is the part of gin. The rest, shop.go, knows nothing of HTTP.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope/middleware/ginscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func main() {
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	dsn := cmp.Or(os.Getenv("DATABASE_URL"), filepath.Join(os.TempDir(), "dbscope-gin.db"))
	s, err := openShop(context.Background(), dsn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf(help, addr)
	log.Fatal(newEngine(s).Run(addr))
}

const help = `Try, in another terminal. There is one last cup, so that the second who asks for it gets 409:
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "tea", "quantity": 2}'
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders --json '{"customer": "bob", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders
`

func newEngine(s *shop) *gin.Engine {
	r := gin.New()
	// Outside of ginscope, these see what the client gets, also when a commit failed.
	r.Use(gin.Logger(), gin.Recovery())
	// All there is to say about transactions: a status under 400 commits, and is
	// sent after that; any other rolls back. GET requests take no write lock.
	r.Use(ginscope.Middleware(httpscope.ReadOnlySafeMethods()))
	r.POST("/orders", s.handlePlace)
	r.GET("/orders", s.handleList)
	return r
}

func (s *shop) handlePlace(c *gin.Context) {
	var o order
	if err := c.ShouldBindJSON(&o); err != nil {
		c.JSON(http.StatusBadRequest, gin.H{"error": err.Error()})
		return
	}
	placed, err := s.place(c.Request.Context(), o) // this context has the transaction
	switch {
	case errors.Is(err, errInvalid):
		c.JSON(http.StatusBadRequest, gin.H{"error": err.Error()})
	case errors.Is(err, errOutOfStock):
		c.JSON(http.StatusConflict, gin.H{"error": err.Error()})
	case err != nil:
		_ = c.AbortWithError(http.StatusInternalServerError, err) // gin.Logger prints it
	default:
		c.JSON(http.StatusCreated, placed)
	}
}

func (s *shop) handleList(c *gin.Context) {
	orders, err := s.list(c.Request.Context())
	if err != nil {
		_ = c.AbortWithError(http.StatusInternalServerError, err)
		return
	}
	c.JSON(http.StatusOK, orders)
}
