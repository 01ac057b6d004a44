// Echo is a small shop on echo, where each request is one transaction:
//
//	go run ./examples/echo
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/echo
//
// This file is the part of echo. The rest, shop.go, knows nothing of HTTP.
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

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func main() {
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	dsn := cmp.Or(os.Getenv("DATABASE_URL"), filepath.Join(os.TempDir(), "dbscope-echo.db"))
	s, err := openShop(context.Background(), dsn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf(help, addr)
	log.Fatal(newEcho(s).Start(addr))
}

const help = `Try, in another terminal. There is one last cup, so that the second who asks for it gets 409:
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "tea", "quantity": 2}'
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders --json '{"customer": "bob", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders
`

func newEcho(s *shop) *echo.Echo {
	e := echo.New()
	// Outside of echoscope, these see what the client gets, also when a commit failed.
	e.Use(middleware.RequestLogger(), middleware.Recover())
	// All there is to say about transactions: a status under 400 commits, and is
	// sent after that; any other, or an error, rolls back. GET requests take no
	// write lock.
	e.Use(echoscope.Middleware(httpscope.ReadOnlySafeMethods()))
	e.POST("/orders", s.handlePlace)
	e.GET("/orders", s.handleList)
	return e
}

func (s *shop) handlePlace(c *echo.Context) error {
	var o order
	if err := c.Bind(&o); err != nil {
		return err
	}
	placed, err := s.place(c.Request().Context(), o) // this context has the transaction
	if err != nil {
		return failure(err)
	}
	return c.JSON(http.StatusCreated, placed)
}

func (s *shop) handleList(c *echo.Context) error {
	orders, err := s.list(c.Request().Context())
	if err != nil {
		return failure(err)
	}
	return c.JSON(http.StatusOK, orders)
}

// failure tells the client what it may know. Of any other error it gets a plain
// 500, and the log the rest.
func failure(err error) error {
	switch {
	case errors.Is(err, errInvalid):
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	case errors.Is(err, errOutOfStock):
		return echo.NewHTTPError(http.StatusConflict, err.Error())
	}
	return err
}
