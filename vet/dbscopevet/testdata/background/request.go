package background

import (
	"context"
	"net/http"

	"shop/store"
)

// Without context.Background the import is for nothing: so there is no fix.
func request(w http.ResponseWriter, r *http.Request) {
	_ = store.Place(context.Background(), "tea") // want `context.Background\(\) has no scope`
}
