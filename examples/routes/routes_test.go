package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

// reference is row R19: the routes of the reference's example, and the rows
// that its tests find after each.
var reference = []struct {
	route  string
	status int    // 0: the connection is closed without an answer
	body   string // part of it
	rows   int
}{
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

func TestR19EachRouteLeavesTheRowsOfTheReference(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, db *sqlscope.DB) {
		for _, want := range reference {
			t.Run(want.route, func(t *testing.T) {
				server := serve(t, db)
				status, body := post(t, server.URL+"/"+want.route)
				if status != want.status || !strings.Contains(body, want.body) {
					t.Errorf("the answer is %d %q, want %d with %q", status, body, want.status, want.body)
				}
				if n := rows(t, server.URL); n != want.rows {
					t.Errorf("%d rows are stored, want %d", n, want.rows)
				}
				checkNoConnectionIsTaken(t, db)
			})
		}
	})
}

func TestR19HasNineRoutes(t *testing.T) {
	if n := len((routes{}).all()); n != 9 || len(reference) != n {
		t.Errorf("there are %d routes, %d of them in the table, want 9", n, len(reference))
	}
}

func onEachDatabase(t *testing.T, test func(*testing.T, *sqlscope.DB)) {
	t.Run("SQLite", func(t *testing.T) {
		test(t, opened(t, "", filepath.Join(t.TempDir(), "routes.db")))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		test(t, opened(t, pgtest.Shared(t).CreateDatabase(t), ""))
	})
}

func opened(t *testing.T, url, file string) *sqlscope.DB {
	t.Helper()
	db := open(url, file)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := createSchema(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

// serve starts the service on an empty table.
func serve(t *testing.T, db *sqlscope.DB) *httptest.Server {
	t.Helper()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, `delete from example`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(newHandler(db))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // one route panics
	server.Start()
	t.Cleanup(server.Close)
	return server
}

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

func checkNoConnectionIsTaken(t *testing.T, db *sqlscope.DB) {
	t.Helper()
	pool, err := db.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := pool.Stats().InUse; n != 0 {
		t.Errorf("%d connections are not back in the pool", n)
	}
}
