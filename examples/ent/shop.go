package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/examples/ent/ent"
	"github.com/dbscope/dbscope/examples/ent/ent/article"
	entorder "github.com/dbscope/dbscope/examples/ent/ent/order"
)

//go:generate go run entgo.io/ent/cmd/ent@v0.14.5 generate ./ent/schema

// shop sells what is in stock. Its functions take a context and no transaction:
// what ent does with the context of one request is in one transaction.
type shop struct {
	db  *sqlscope.DB
	ent *ent.Client
}

type order = ent.Order

var (
	errInvalid    = errors.New("an order needs a customer, an sku and a quantity of 1 or more")
	errOutOfStock = errors.New("out of stock")
)

// openShop makes one client for all requests. On SQLite, immediate is what lets
// transactions that read and then write wait for each other; ent asks for
// foreign_keys.
func openShop(ctx context.Context, dsn string) (*shop, error) {
	s := &shop{db: sqlscope.Open("sqlite", dsn+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")}
	name := dialect.SQLite
	if strings.HasPrefix(dsn, "postgres") {
		s.db, name = sqlscope.Open("pgx", dsn), dialect.Postgres
	}
	// Until this function returns, ent may use the database outside of requests, to
	// migrate it. After that it works on the handle alone.
	err := s.db.SetUp(func(handle *sql.DB) error {
		s.ent = ent.NewClient(ent.Driver(entsql.OpenDB(name, handle)))
		return s.ent.Schema.Create(ctx)
	})
	if err != nil {
		return s, err
	}
	return s, dbscope.Run(ctx, s.fillStock) // Run begins a transaction, and nil commits it
}

func (s *shop) fillStock(ctx context.Context) error {
	if there, err := s.ent.Article.Query().Exist(ctx); err != nil || there {
		return err
	}
	return s.ent.Article.CreateBulk(
		s.ent.Article.Create().SetID("tea").SetQuantity(1000),
		s.ent.Article.Create().SetID("last-cup").SetQuantity(1),
	).Exec(ctx)
}

// place stores the order first. Where there is too little in stock its caller
// answers with a failure, which takes the order back.
func (s *shop) place(ctx context.Context, o order) (*order, error) {
	if o.Customer == "" || o.Sku == "" || o.Quantity < 1 {
		return nil, errInvalid
	}
	placed, err := s.ent.Order.Create().
		SetID(rand.Text()).SetCustomer(o.Customer).SetSku(o.Sku).SetQuantity(o.Quantity).Save(ctx)
	if err != nil {
		return nil, err
	}
	taken, err := s.ent.Article.Update().
		Where(article.ID(o.Sku), article.QuantityGTE(o.Quantity)).AddQuantity(-o.Quantity).Save(ctx)
	if err != nil || taken == 1 {
		return placed, err
	}
	return nil, errOutOfStock
}

func (s *shop) list(ctx context.Context) ([]*order, error) {
	return s.ent.Order.Query().Order(entorder.ByCustomer(), entorder.ByID()).All(ctx)
}
