package readme

import (
	"context"
	"net/http"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// Opens nothing yet. Any database/sql driver will do; "pgx" is that of
// github.com/jackc/pgx/v5/stdlib.
var shop = sqlscope.Open("pgx", "postgres://app@127.0.0.1/shop")

// No transaction in the arguments: the context has it.
func placeOrder(ctx context.Context, item string) error {
	if _, err := shop.ExecContext(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, item); err != nil {
		return err
	}
	_, err := shop.ExecContext(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}

func handleOrder(w http.ResponseWriter, r *http.Request) {
	if err := placeOrder(r.Context(), r.FormValue("item")); err != nil {
		http.Error(w, "cannot order", http.StatusConflict) // 400 and above: rolled back
		return
	}
	w.WriteHeader(http.StatusCreated) // sent after the commit
}

func serve() error {
	return http.ListenAndServe("127.0.0.1:8080", httpscope.Middleware()(http.HandlerFunc(handleOrder)))
}

func nightly(ctx context.Context) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		return placeOrder(ctx, "tea")
	})
}

// Once, at start. GORM's own statements then run in the scope of their context.
func openGORM() (*gorm.DB, error) {
	return gorm.Open(postgres.New(postgres.Config{Conn: shop.SQL()}), &gorm.Config{})
}

func audit(ctx context.Context, gormDB *gorm.DB) error {
	tx, err := shop.Session(ctx) // the *sql.Tx itself
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO audit (what) VALUES ('by hand')`); err != nil {
		return err
	}
	return gormDB.WithContext(ctx).Exec(`INSERT INTO audit (what) VALUES ('by GORM')`).Error
}

var _, _, _, _ = serve, nightly, openGORM, audit
