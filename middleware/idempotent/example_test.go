package idempotent_test

import (
	"context"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

// A request that comes again with its key gets the response that it got, or missed,
// the first time.
func Example() {
	shop := sqlscope.Open("pgx", "postgres://app@127.0.0.1/shop") // or a DB of pgxscope

	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders/{item}", func(w http.ResponseWriter, r *http.Request) {
		if _, err := shop.ExecContext(r.Context(), `INSERT INTO orders (item) VALUES ($1)`, r.PathValue("item")); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable) // rolled back, with the key
			return
		}
		w.WriteHeader(http.StatusCreated) // stored, with the key
	})

	// Whose request it is says a middleware outside.
	userOf := func(r *http.Request) (string, bool) {
		user, _, ok := r.BasicAuth()
		return user, ok
	}
	once := idempotent.Middleware(shop, userOf, idempotent.Required())
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", httpscope.Middleware()(once(mux))))
}

// A client sends a request again until it is answered. It is done once.
func ExampleTransport() {
	client := &http.Client{Transport: &idempotent.Transport{Attempts: 20}, Timeout: time.Minute}
	answer, err := client.Post("http://127.0.0.1:8080/orders/tea", "text/plain", strings.NewReader(""))
	if err != nil {
		log.Fatal(err) // it may be ordered, or not
	}
	_ = answer.Body.Close()
}

// Old keys are deleted now and then.
func ExamplePurge() {
	shop := sqlscope.Open("pgx", "postgres://app@127.0.0.1/shop")
	for range time.Tick(time.Hour) {
		if _, err := idempotent.Purge(context.Background(), shop, 24*time.Hour); err != nil {
			log.Print(err)
		}
	}
}
