// Shop takes orders and stores them in a file of SQLite.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	_ "modernc.org/sqlite"
)

// Opens nothing yet: the first statement does.
var db = sqlscope.Open("sqlite", "file:shop.db?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")

var errSoldOut = errors.New("sold out")

// placeOrder neither begins a transaction nor gets one: the context has it.
func placeOrder(ctx context.Context, item string) error {
	if _, err := db.ExecContext(ctx, `INSERT INTO orders (item) VALUES (?)`, item); err != nil {
		return err
	}
	result, err := db.ExecContext(ctx, `UPDATE stock SET n = n - 1 WHERE item = ? AND n > 0`, item)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("%s: %w", item, errSoldOut) // the row in orders goes, too
}

func handleOrder(w http.ResponseWriter, r *http.Request) {
	err := placeOrder(r.Context(), r.FormValue("item"))
	switch {
	case errors.Is(err, errSoldOut):
		http.Error(w, err.Error(), http.StatusConflict) // 400 and above: rolled back
	case err != nil:
		log.Print(err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusCreated) // under 400: committed, and then sent
	}
}

func countOrders(w http.ResponseWriter, r *http.Request) {
	var orders int
	if err := db.QueryRowContext(r.Context(), `SELECT count(*) FROM orders`).Scan(&orders); err != nil {
		log.Print(err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintln(w, orders, "orders")
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", handleOrder)
	mux.HandleFunc("GET /orders", countOrders)
	return httpscope.Middleware(httpscope.ReadOnlySafeMethods())(mux) // each request is a unit of work
}

func createTables(ctx context.Context) error {
	_, err := db.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, n INTEGER NOT NULL);
		CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL);
		INSERT INTO stock VALUES ('tea', 2) ON CONFLICT DO NOTHING`)
	return err
}

func main() {
	if err := dbscope.Run(context.Background(), createTables); err != nil { // a unit outside of requests
		log.Fatal(err)
	}
	log.Print("listening on http://127.0.0.1:8080")
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", handler()))
}
