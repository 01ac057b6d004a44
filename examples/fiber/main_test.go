package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope/examples/internal/shoptest"
	"github.com/dbscope/dbscope/scopetest"
)

func TestMain(m *testing.M) { shoptest.Main(m, main) }

// The shop is tested twice on one database, by the same questions. The first
// time everything is one transaction that is rolled back, which is fast and
// leaves the database as it was; the second time is as in production.
func TestAnOrderIsStoredWholeOrNotAtAll(t *testing.T) {
	shoptest.Databases(t, func(t *testing.T, dsn string) {
		s, err := openShop(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.db.Close() })
		t.Run("in a transaction that is rolled back", func(t *testing.T) {
			ctx := scopetest.Rollback(t, s.db)
			// A server of net/http can be given this context, fiber cannot: an app
			// around the shop brings each request into the test's transaction.
			outer := fiber.New()
			outer.Use(func(c fiber.Ctx) error {
				c.SetContext(scopetest.Attach(c.Context(), ctx))
				return c.Next()
			})
			outer.Use(newApp(s))
			shoptest.Check(t, client(outer))
			if n := scopetest.Count(ctx, s.db, "orders"); n != shoptest.Placed {
				t.Errorf("the test sees %d orders, want %d", n, shoptest.Placed)
			}
		})
		shoptest.CheckStored(t, dsn, 0)
		t.Run("with real commits", func(t *testing.T) {
			shoptest.Check(t, client(newApp(s)))
		})
		shoptest.CheckStored(t, dsn, shoptest.Placed)
	})
}

// client sends its requests to the app without a server.
func client(app *fiber.App) shoptest.Client {
	return shoptest.HTTP("http://shop", func(r *http.Request) (*http.Response, error) {
		return app.Test(r, fiber.TestConfig{Timeout: time.Minute})
	})
}

func TestTheProgramServesWhatItSays(t *testing.T) {
	shoptest.Start(t).CheckCurl(t, "201", "201", "409", "200")
}
