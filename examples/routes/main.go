// Routes is nine ways for a request to use its session, each a route of its
// own. They are those of the example of context-async-sqlalchemy, with the
// same names and the same rows left behind: row R19 of the comparison with it.
//
//	go run ./examples/routes
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/routes
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func main() {
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8081")
	db := open(os.Getenv("DATABASE_URL"), filepath.Join(os.TempDir(), "dbscope-routes.db"))
	if err := createSchema(context.Background(), db); err != nil {
		log.Fatal(err)
	}
	fmt.Println("Try, in another terminal:")
	for _, name := range routeNames(db) {
		fmt.Printf("  curl -X POST http://%s/%s\n", addr, name)
	}
	fmt.Printf("  curl http://%s/rows\n", addr)
	log.Fatal(http.ListenAndServe(addr, newHandler(db)))
}

// open connects to nothing yet. On SQLite a transaction takes the one write
// lock as it begins, and waits its turn for it.
func open(databaseURL, file string) *sqlscope.DB {
	if databaseURL != "" {
		return sqlscope.Open("pgx", databaseURL)
	}
	return sqlscope.Open("sqlite", "file:"+filepath.ToSlash(file)+
		"?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)")
}

const schema = `create table if not exists example (text text)`

func createSchema(ctx context.Context, db *sqlscope.DB) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, schema)
		return err
	})
}

func newHandler(db *sqlscope.DB) http.Handler {
	mux := http.NewServeMux()
	for name, route := range (routes{db}).all() {
		mux.Handle("POST /"+name, answer(route))
	}
	mux.HandleFunc("GET /rows", routes{db}.rows)
	return httpscope.Middleware(httpscope.ReadOnlySafeMethods())(mux)
}

// answer turns an error into a 500, which rolls the request back.
func answer(route func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := route(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "ok") // a client that is gone misses it
	})
}

func routeNames(db *sqlscope.DB) []string {
	var names []string
	for name := range (routes{db}).all() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
