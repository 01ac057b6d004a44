package httpscope_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/dbscope/dbscope/driver/drivertest"
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
