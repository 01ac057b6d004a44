package httpscope_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func TestAUnitHasTheNameOfItsRoute(t *testing.T) {
	names := make(observetest.Names, 10)
	db := drivertest.NewFake().DB(dbscope.Observe(names))
	stores := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := drivertest.Exec(r.Context(), db, "row"); err != nil {
			t.Error(err)
		}
	})
	mux := func(pattern string, h http.Handler) http.Handler {
		m := http.NewServeMux()
		m.Handle(pattern, h)
		return m
	}
	// authenticates uses the database before the mux knows the route.
	authenticates := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			stores(w, r)
			next.ServeHTTP(w, r)
		})
	}
	for name, c := range map[string]struct {
		handler http.Handler
		want    string
	}{
		"of a mux inside":                  {httpscope.Middleware()(mux("GET /orders/{id}", stores)), "GET /orders/{id}"},
		"of a mux inside, for all methods": {httpscope.Middleware()(mux("/orders/", stores)), "GET /orders/"},
		"of a mux outside":                 {mux("/orders/{id}", httpscope.Middleware()(stores)), "GET /orders/{id}"},
		"of a mux inside a middleware that uses the database": {
			httpscope.Middleware()(authenticates(mux("/orders/{id}", stores))), "GET /orders/{id}",
		},
		"of a mux inside a mux, and such a middleware between them": {
			mux("/", httpscope.Middleware()(authenticates(mux("/orders/{id}", stores)))), "GET /orders/{id}",
		},
		"that is known to nobody": {httpscope.Middleware()(stores), "GET"},
		"that the option says": {
			httpscope.Middleware(httpscope.UnitName(func(r *http.Request) string { return "mine " + r.URL.Path }))(stores), "mine /orders/7",
		},
		"or that of the scope's options": {
			httpscope.Middleware(httpscope.ScopeOptions(dbscope.Name("given")))(stores), "given",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/orders/7", nil))
			if got := <-names; got != c.want {
				t.Errorf("the unit is called %q, want %q", got, c.want)
			}
		})
	}
}
