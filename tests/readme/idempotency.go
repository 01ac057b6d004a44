package readme

import (
	"context"
	"net/http"
	"time"

	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

type callerKey struct{}

// ordersOnce needs the table, see createKeys. userOf says whose request it is.
func ordersOnce(mux http.Handler) http.Handler {
	once := idempotent.Middleware(shop, userOf)
	return httpscope.Middleware()(once(mux)) // it stands inside httpscope's
}

// userOf finds the user that a middleware outside has authenticated.
func userOf(r *http.Request) (name string, known bool) {
	name, known = r.Context().Value(callerKey{}).(string)
	return name, known
}

// createKeys belongs to the migrations. MariaDB and MySQL, and SQLite, have statements of their own.
func createKeys(ctx context.Context) error {
	pool, err := shop.Engine(ctx)
	if err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, idempotent.PostgreSQLTable)
	return err
}

// caller sends its requests with keys, and again until they are answered.
var caller = &http.Client{Transport: &idempotent.Transport{}, Timeout: time.Minute}

// inShards looks for a key in the database that its request works in.
func inShards(mux http.Handler, shardOf func(*http.Request) *sqlscope.DB) http.Handler {
	once := idempotent.Chosen(shardOf, userOf)
	return httpscope.Middleware()(once(mux))
}

// purgeKeys is called every hour, or so.
func purgeKeys(ctx context.Context) error {
	_, err := idempotent.Purge(ctx, shop, 24*time.Hour)
	return err
}

var _, _, _, _, _ = ordersOnce, createKeys, caller, inShards, purgeKeys
