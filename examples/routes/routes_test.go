package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

type routeTest struct {
	route  string
	status int    // 0: the connection is closed without an answer
	body   string // part of it
	rows   int
}

// reference is row R19: the routes of the reference's example, and the rows
// that its tests find after each.
var reference = []routeTest{
	{route: "atomic_base_example", status: 200, rows: 2},
	{route: "atomic_and_previous_transaction", status: 500, body: dbscope.ErrOpenTransaction.Error(), rows: 5},
	{route: "simple_usage", status: 200, rows: 1},
	{route: "early_commit", status: 200, rows: 4},
	{route: "concurrent_queries", status: 200, rows: 5},
	{route: "early_rollback", status: 200, rows: 0},
	{route: "auto_rollback_by_exception", rows: 0},
	{route: "auto_rollback_by_status_code", status: 500, body: errOnPurpose.Error(), rows: 0},
	{route: "early_connection_close", status: 200, rows: 2},
}

func TestR19HasNineRoutes(t *testing.T) {
	if n := len((routes{}).all()); n != 9 || len(reference) != n {
		t.Errorf("there are %d routes, %d of them in the table, want 9", n, len(reference))
	}
}

// check sends a request to the route, and looks at what it leaves.
func check(t *testing.T, url string, want routeTest) {
	t.Helper()
	status, body := post(t, url+"/"+want.route)
	if status != want.status || !strings.Contains(body, want.body) {
		t.Errorf("the answer is %d %q, want %d with %q", status, body, want.status, want.body)
	}
	if n := rows(t, url); n != want.rows {
		t.Errorf("%d rows are stored, want %d", n, want.rows)
	}
}

func closeDB(t *testing.T, db *sqlscope.DB) {
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// quiet keeps the panic of one route out of the output.
func quiet(server *httptest.Server) { server.Config.ErrorLog = log.New(io.Discard, "", 0) }

// post returns status 0 where there was no answer.
func post(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "", nil)
	if err != nil {
		return 0, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(body)
}

func rows(t *testing.T, url string) (n int) {
	t.Helper()
	resp, err := http.Get(url + "/rows")
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fscan(resp.Body, &n)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}
