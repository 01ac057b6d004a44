package dbscope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/middleware"
)

// begin is [dbscope.Begin] for a middleware.
func begin(ctx context.Context, opts ...dbscope.Option) (context.Context, middleware.Scope) {
	ctx, _ = dbscope.Begin(ctx, opts...)
	scope, _ := middleware.ScopeOf(ctx)
	return ctx, scope
}

var ok, is, equal = check.OK, check.Is, check.Equal[string]

var errStop = errors.New("stop")

// idleConns fails the test at its end where connections are still in use.
func idleConns(t *testing.T, fakes ...*drivertest.Fake) {
	t.Cleanup(func() {
		for _, f := range fakes {
			if n := f.Open(); n != 0 {
				t.Errorf("%d connections are still out of the pool", n)
			}
		}
	})
}

func newFake(t *testing.T, opts ...dbscope.DBOption) (*drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	f := drivertest.NewFake()
	idleConns(t, f)
	return f, f.DB(opts...)
}

func exec(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx], rows ...string) {
	t.Helper()
	for _, row := range rows {
		ok(t, drivertest.Exec(ctx, db, row))
	}
}
