package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// shop sells what is in stock. Its functions take a context and no transaction:
// what sqlx does with the context of one request is in one transaction.
type shop struct {
	db *sqlscope.DB
	x  *sqlx.DB
}

type order struct {
	ID       string `json:"id" db:"id"`
	Customer string `json:"customer" db:"customer"`
	SKU      string `json:"sku" db:"sku"`
	Quantity int    `json:"quantity" db:"quantity"`
}

var (
	errInvalid    = errors.New("an order needs a customer, an sku and a quantity of 1 or more")
	errOutOfStock = errors.New("out of stock")
)

// openShop makes one sqlx.DB for all requests. On SQLite, immediate is what lets
// transactions that read and then write wait for each other.
func openShop(ctx context.Context, dsn string) (*shop, error) {
	db := sqlscope.Open("sqlite", dsn+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if strings.HasPrefix(dsn, "postgres") {
		db = sqlscope.Open("pgx", dsn)
	}
	// By this name sqlx knows the placeholders: $1, which SQLite takes, too.
	s := &shop{db, sqlx.NewDb(db.SQL(), "pgx")}
	// Outside of requests, Run begins the transaction, and nil commits it.
	return s, dbscope.Run(ctx, func(ctx context.Context) error {
		_, err := s.x.ExecContext(ctx, `
			create table if not exists stock (sku text primary key, quantity integer not null);
			create table if not exists orders (id text primary key, customer text not null,
				sku text not null, quantity integer not null);
			insert into stock values ('tea', 1000), ('last-cup', 1) on conflict do nothing`)
		return err
	})
}

// place stores the order first. Where there is too little in stock its caller
// answers with a failure, which takes the order back.
func (s *shop) place(ctx context.Context, o order) (order, error) {
	if o.Customer == "" || o.SKU == "" || o.Quantity < 1 {
		return o, errInvalid
	}
	o.ID = rand.Text()
	if _, err := s.x.NamedExecContext(ctx, `insert into orders values (:id, :customer, :sku, :quantity)`, o); err != nil {
		return o, err
	}
	taken, err := s.x.NamedExecContext(ctx,
		`update stock set quantity = quantity - :quantity where sku = :sku and quantity >= :quantity`, o)
	if err != nil {
		return o, err
	}
	if n, err := taken.RowsAffected(); err != nil || n == 1 {
		return o, err
	}
	return o, errOutOfStock
}

func (s *shop) list(ctx context.Context) ([]order, error) {
	orders := []order{} // in JSON none is [], not null
	return orders, s.x.SelectContext(ctx, &orders, `select * from orders order by customer, id`)
}
