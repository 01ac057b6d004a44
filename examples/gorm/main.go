// Gorm is a small shop that stores with GORM, and where each request is one
// transaction:
//
//	go run ./examples/gorm
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/gorm
//
// The part of GORM is shop.go. This file is net/http's, and knows no database.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"github.com/dbscope/dbscope/middleware/httpscope"
)

func main() {
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	dsn := cmp.Or(os.Getenv("DATABASE_URL"), filepath.Join(os.TempDir(), "dbscope-gorm.db"))
	s, err := openShop(context.Background(), dsn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf(help, addr)
	log.Fatal(http.ListenAndServe(addr, newHandler(s)))
}

const help = `Try, in another terminal. There is one last cup, so that the second who asks for it gets 409:
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "tea", "quantity": 2}'
  curl -i http://%[1]s/orders --json '{"customer": "ada", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders --json '{"customer": "bob", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/orders
`

func newHandler(s *shop) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.handlePlace)
	mux.HandleFunc("GET /orders", s.handleList)
	// All there is to say about transactions: a status under 400 commits, and is
	// sent after that; any other rolls back. GET requests take no write lock.
	return httpscope.Middleware(httpscope.ReadOnlySafeMethods())(mux)
}

func (s *shop) handlePlace(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, "an order is JSON", http.StatusBadRequest)
		return
	}
	placed, err := s.place(r.Context(), o) // this context has the transaction
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, placed)
}

func (s *shop) handleList(w http.ResponseWriter, r *http.Request) {
	orders, err := s.list(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, orders)
}

// fail answers with a status of 400 or more, so that the request is rolled back.
func fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errInvalid):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errOutOfStock):
		http.Error(w, err.Error(), http.StatusConflict)
	default: // the database's words are not for clients
		log.Print(err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status) // held by httpscope until the commit
	_ = json.NewEncoder(w).Encode(v)
}
