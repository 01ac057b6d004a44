package readme

import (
	"net/http"

	"github.com/dbscope/dbscope/driver/pgxscope"
)

var connection = pgxscope.Open("postgres://app@127.0.0.1/shop")

func orderRoute(w http.ResponseWriter, r *http.Request) {
	if _, err := connection.Exec(r.Context(), `INSERT INTO orders (item) VALUES ($1)`, r.FormValue("item")); err != nil {
		http.Error(w, "cannot order", http.StatusInternalServerError)
	}
}

var _ = orderRoute
