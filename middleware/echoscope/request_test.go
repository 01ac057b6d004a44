package echoscope_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/echoscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

type userKey struct{}

// As authentication does, whose user a logger outside names.
func TestARequestThatTheChainPutIntoTheContextIsSeenOutside(t *testing.T) {
	db := drivertest.NewFake().DB()
	for name, opts := range map[string][]httpscope.Option{
		"default":  nil,
		"retry":    {httpscope.Retry(dbscope.RetryPolicy{}, 10)},
		"unscoped": {httpscope.TokenHeader("X-Token"), httpscope.Unscoped(func(*http.Request) bool { return true })},
	} {
		for path, replaces := range map[string]bool{"/kept": false, "/replaced": true, "/panics": true} {
			e := echo.New()
			var before, after *http.Request
			e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
				return func(c *echo.Context) error {
					before = c.Request()
					defer func() {
						_ = recover()
						after = c.Request()
					}()
					return next(c)
				}
			}, echoscope.Middleware(opts...))
			e.GET(path, func(c *echo.Context) error {
				if replaces {
					c.SetRequest(c.Request().WithContext(context.WithValue(c.Request().Context(), userKey{}, "ann")))
				}
				if path == "/panics" {
					panic("no")
				}
				return nil
			})
			e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			if user := after.Context().Value(userKey{}); replaces != (user == "ann") || replaces == (after == before) {
				t.Errorf("%s, %s: the user outside is %v", name, path, user)
			}
			if _, err := db.Session(after.Context()); !errors.Is(err, dbscope.ErrNoScope) {
				t.Errorf("%s, %s: a session outside: %v", name, path, err)
			}
		}
	}
}
