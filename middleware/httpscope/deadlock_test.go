package httpscope_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// The request's unit waits for the one in its handler, as a Run around a Run does.
func TestAUnitInAHandlerThatHoldsTheLastConnectionIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := drivertest.NewFake()
		f.LimitConns(1)
		db := f.DB()
		start := time.Now()
		handler := httpscope.Middleware()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if err := drivertest.Exec(r.Context(), db, "a"); err != nil {
				t.Error(err)
			}
			err := dbscope.Run(r.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") })
			if !errors.Is(err, dbscope.ErrPoolDeadlock) {
				t.Errorf("got %v", err)
			}
		}))
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil))
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}
