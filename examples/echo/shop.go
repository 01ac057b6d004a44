package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// shop sells what is in stock. Its functions take a context and no transaction:
// all statements with the context of one request are in one transaction.
type shop struct{ db *sqlscope.DB }

type order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

var (
	errInvalid    = errors.New("an order needs a customer, an sku and a quantity of 1 or more")
	errOutOfStock = errors.New("out of stock")
)

// openShop connects with its first statement. On SQLite, immediate is what lets
// transactions that read and then write wait for each other.
func openShop(ctx context.Context, dsn string) (*shop, error) {
	s := &shop{sqlscope.Open("sqlite", dsn+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")}
	if strings.HasPrefix(dsn, "postgres") {
		s = &shop{sqlscope.Open("pgx", dsn)}
	}
	// Outside of requests, Run begins the transaction, and nil commits it.
	return s, dbscope.Run(ctx, func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, `
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
	_, err := s.db.ExecContext(ctx, `insert into orders values ($1, $2, $3, $4)`, o.ID, o.Customer, o.SKU, o.Quantity)
	if err != nil {
		return o, err
	}
	taken, err := s.db.ExecContext(ctx,
		`update stock set quantity = quantity - $1 where sku = $2 and quantity >= $1`, o.Quantity, o.SKU)
	if err != nil {
		return o, err
	}
	if n, err := taken.RowsAffected(); err != nil || n == 1 {
		return o, err
	}
	return o, errOutOfStock
}

func (s *shop) list(ctx context.Context) ([]order, error) {
	rows, err := s.db.QueryContext(ctx, `select id, customer, sku, quantity from orders order by customer, id`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // open rows keep the transaction from its next statement
	orders := []order{}                 // in JSON none is [], not null
	for rows.Next() {
		var o order
		if err := rows.Scan(&o.ID, &o.Customer, &o.SKU, &o.Quantity); err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}
