package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

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
			server := scopetest.Serve(t, newHandler(s), s.db)
			shoptest.Check(t, shoptest.HTTP(server.URL, http.DefaultClient.Do))
			if n := scopetest.Count(server.Context, s.db, "orders"); n != shoptest.Placed {
				t.Errorf("the test sees %d orders, want %d", n, shoptest.Placed)
			}
		})
		shoptest.CheckStored(t, dsn, 0)
		t.Run("with real commits", func(t *testing.T) {
			server := httptest.NewServer(newHandler(s))
			t.Cleanup(server.Close)
			shoptest.Check(t, shoptest.HTTP(server.URL, http.DefaultClient.Do))
		})
		shoptest.CheckStored(t, dsn, shoptest.Placed)
	})
}

func TestTheProgramServesWhatItSays(t *testing.T) {
	shoptest.Start(t).CheckCurl(t, "201", "201", "409", "200")
}
