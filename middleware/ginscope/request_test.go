package ginscope_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/ginscope"
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
			engine := gin.New()
			var before, after *http.Request
			engine.Use(func(c *gin.Context) {
				before = c.Request
				defer func() {
					_ = recover()
					after = c.Request
				}()
				c.Next()
			}, ginscope.Middleware(opts...), func(c *gin.Context) {
				if replaces {
					c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), userKey{}, "ann"))
				}
				if path == "/panics" {
					panic("no")
				}
			})
			engine.GET(path, func(*gin.Context) {})
			engine.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			if user := after.Context().Value(userKey{}); replaces != (user == "ann") || replaces == (after == before) {
				t.Errorf("%s, %s: the user outside is %v", name, path, user)
			}
			if _, err := db.Session(after.Context()); !errors.Is(err, dbscope.ErrNoScope) {
				t.Errorf("%s, %s: a session outside: %v", name, path, err)
			}
		}
	}
}
