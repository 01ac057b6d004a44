package main

import (
	"net/http"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/scopetest"
)

func TestAnOrderOfWhatIsSoldOutLeavesNothing(t *testing.T) {
	t.Chdir(t.TempDir()) // with a shop.db of its own
	server := scopetest.Serve(t, handler(), db)
	if err := dbscope.Run(server.Context, createTables); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{http.StatusCreated, http.StatusCreated, http.StatusConflict} {
		response, err := http.Post(server.URL+"/orders?item=tea", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("the status is %d, not %d", response.StatusCode, want)
		}
	}
	if n := scopetest.Count(server.Context, db, "orders"); n != 2 {
		t.Errorf("%d orders are stored, not 2", n)
	}
}
