package scopetest_test

import (
	"fmt"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
	"github.com/dbscope/dbscope/tests/wire"
)

// They are what a test costs: three to begin, which pgxscope sends as one, one
// for each unit after the first, two to end, and the statements.
func TestRoundTripsOfATest(t *testing.T) {
	for name, most := range map[string]int{"PostgreSQL by pgxscope": 6, "PostgreSQL by sqlscope": 8} {
		t.Run(name, func(t *testing.T) {
			server := pgtest.Shared(t)
			proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", server.Port()))
			// Without deferred constraints, whose checks would be two more.
			d := opened{adapters[name].open(proxy.DSN(server.CreateDatabase(t))), isPostgreSQL}
			t.Cleanup(func() { ok(t, d.Close()) })
			ok(t, d.define(t.Context(), "CREATE TABLE t (id INTEGER)"))
			for range 2 { // the first one also connects
				proxy.Reset()
				t.Run("in a test", func(t *testing.T) {
					ctx := scopetest.Rollback(t, d)
					ok(t, dbscope.Run(ctx, store(d, 1, nil)))
					ok(t, dbscope.Run(ctx, store(d, 2, nil)))
				})
			}
			if n := proxy.RoundTrips(); n != most {
				t.Errorf("%d round trips, want %d:\n%v", n, most, proxy.Messages())
			}
		})
	}
}
