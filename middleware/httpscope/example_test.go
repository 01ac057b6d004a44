package httpscope_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// A fake database stands for a real one; its statements store rows.
func Example() {
	fake := drivertest.NewFake()
	db := fake.DB()

	place := func(ctx context.Context, order string) error { // knows nothing of HTTP
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		return tx.Exec(ctx, order)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := place(r.Context(), r.PathValue("id")); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
			return
		}
		if r.PathValue("id") == "13" {
			http.Error(w, "not that one", http.StatusConflict) // takes the order back
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	server := httpscope.Middleware()(mux)

	for _, order := range []string{"12", "13", "14"} {
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/orders/"+order, nil))
		fmt.Println("order", order, answer.Code)
	}
	fmt.Println("stored", fake.Rows())
	// Output:
	// order 12 201
	// order 13 409
	// order 14 201
	// stored [12 14]
}

// GET requests read from replicas, but from none that lacks what the client
// itself has written.
func ExampleTokenCookie() {
	key := []byte("32 random bytes from the secrets") // the same in every process
	nodes := cluster.New(cluster.List("10.0.0.1", "10.0.0.2", "10.0.0.3"), cluster.SignedBy(key))
	shop := sqlscope.Open("pgx", "postgres://app@{host}/shop", dbscope.Router(nodes))

	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if _, err := shop.ExecContext(r.Context(), "INSERT INTO orders (item) VALUES ($1)", r.FormValue("item")); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		var n int
		if err := shop.QueryRowContext(r.Context(), "SELECT count(*) FROM orders").Scan(&n); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, n, "orders")
	})
	server := httpscope.Middleware(
		httpscope.ReadOnlySafeMethods(),
		httpscope.TokenCookie(http.Cookie{Name: "__Host-writes", Secure: true}),
	)(mux)
	if err := http.ListenAndServe("127.0.0.1:8080", server); err != nil {
		fmt.Println(err)
	}
}
