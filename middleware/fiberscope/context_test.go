package fiberscope_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/fiberscope"
)

type userKey struct{}

// As authentication does, whose user a logger outside names.
func TestAContextThatTheHandlersSetIsSeenOutside(t *testing.T) {
	db := drivertest.NewFake().DB()
	for name, opts := range map[string][]fiberscope.Option{
		"default":  nil,
		"unscoped": {fiberscope.TokenHeader("X-Token"), fiberscope.Unscoped(func(fiber.Ctx) bool { return true })},
	} {
		for path, replaces := range map[string]bool{"/kept": false, "/replaced": true, "/panics": true} {
			app := fiber.New()
			app.Use(func(c fiber.Ctx) error {
				before := c.Context()
				defer func() {
					_ = recover()
					after := c.Context()
					if user := after.Value(userKey{}); replaces != (user == "ann") || replaces == (after == before) {
						t.Errorf("%s, %s: the user outside is %v", name, path, user)
					}
					if _, err := db.Session(after); !errors.Is(err, dbscope.ErrNoScope) {
						t.Errorf("%s, %s: a session outside: %v", name, path, err)
					}
				}()
				return c.Next()
			}, fiberscope.Middleware(opts...))
			app.Get(path, func(c fiber.Ctx) error {
				if replaces {
					c.SetContext(context.WithValue(c.Context(), userKey{}, "ann"))
				}
				if path == "/panics" {
					panic("no")
				}
				return nil
			})
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := app.Test(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	}
}
