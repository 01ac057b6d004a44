package http_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// Where the middleware is around a sub-router, the second attempt is a 404.
func TestARequestToChiIsServedAgainWhereItsRouteIsFound(t *testing.T) {
	for name, routes := range map[string]func(r chi.Router, scoped func(http.Handler) http.Handler, h http.HandlerFunc){
		"with": func(r chi.Router, scoped func(http.Handler) http.Handler, h http.HandlerFunc) {
			r.With(scoped).Post("/{id}", h)
		},
		"group": func(r chi.Router, scoped func(http.Handler) http.Handler, h http.HandlerFunc) {
			r.Group(func(r chi.Router) {
				r.Use(scoped)
				r.Post("/{id}", h)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake := drivertest.NewFake()
			db := fake.DB()
			scoped := httpscope.Middleware(httpscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond}, 100))
			router := chi.NewRouter()
			router.Route("/orders", func(r chi.Router) {
				routes(r, scoped, func(w http.ResponseWriter, r *http.Request) {
					row := chi.RouteContext(r.Context()).RoutePattern() + " " + chi.URLParam(r, "id")
					if err := drivertest.Exec(r.Context(), db, row); err != nil {
						t.Error(err)
					}
					w.WriteHeader(http.StatusCreated)
				})
			})
			fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
			w := httptest.NewRecorder()
			router.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders/42", http.NoBody))
			if rows := fake.Rows(); w.Code != http.StatusCreated || !slices.Equal(rows, []string{"/orders/{id} 42"}) {
				t.Errorf("the answer is %d, the rows are %q", w.Code, rows)
			}
		})
	}
}
