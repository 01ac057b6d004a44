// Fiber is a small shop on fiber, where each request is one transaction:
//
//	go run ./examples/fiber
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/fiber
//
// This file is the part of fiber. The rest, shop.go, knows nothing of HTTP.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/logger"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/dbscope/dbscope/middleware/fiberscope"
)

func main() {
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	dsn := cmp.Or(os.Getenv("DATABASE_URL"), filepath.Join(os.TempDir(), "dbscope-fiber.db"))
	s, err := openShop(context.Background(), dsn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf(help, addr)
	log.Fatal(newApp(s).Listen(addr))
}

const help = `Try, in another terminal. There is one last cup, so that the second who asks for it gets 409:
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "tea", "quantity": 2}'
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders --json '{"customer": "bob", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders
`

func newApp(s *shop) *fiber.App {
	app := fiber.New()
	// Outside of fiberscope, these see what the client gets, also when a commit failed.
	app.Use(logger.New(), recover.New())
	// All there is to say about transactions: a status under 400 commits, and is
	// sent after that; any other, or an error, rolls back. GET requests take no
	// write lock.
	app.Use(fiberscope.Middleware(fiberscope.ReadOnlySafeMethods()))
	app.Post("/orders", s.handlePlace)
	app.Get("/orders", s.handleList)
	return app
}

func (s *shop) handlePlace(c fiber.Ctx) error {
	var o order
	if err := c.Bind().Body(&o); err != nil {
		return fiber.NewError(fiber.StatusBadRequest, err.Error())
	}
	placed, err := s.place(c.Context(), o) // c.Context() has the transaction; c itself is refused
	if err != nil {
		return failure(err)
	}
	return c.Status(fiber.StatusCreated).JSON(placed)
}

func (s *shop) handleList(c fiber.Ctx) error {
	orders, err := s.list(c.Context())
	if err != nil {
		return failure(err)
	}
	return c.JSON(orders)
}

// failure tells the client what it may know. Of any other error it gets a plain
// 500, and the log the rest.
func failure(err error) error {
	switch {
	case errors.Is(err, errInvalid):
		return fiber.NewError(fiber.StatusBadRequest, err.Error())
	case errors.Is(err, errOutOfStock):
		return fiber.NewError(fiber.StatusConflict, err.Error())
	}
	return err
}
