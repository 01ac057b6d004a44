package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// shop sells what is in stock. Its functions take a context and no transaction:
// what bun does with the context of one request is in one transaction.
type shop struct {
	db  *sqlscope.DB
	bun *bun.DB
}

type order struct {
	bun.BaseModel `bun:"orders" json:"-"`

	ID       string `bun:",pk" json:"id"`
	Customer string `bun:",notnull" json:"customer"`
	SKU      string `bun:",notnull" json:"sku"`
	Quantity int    `bun:",notnull" json:"quantity"`
}

type article struct {
	SKU      string `bun:",pk"`
	Quantity int    `bun:",notnull"`
}

var (
	errInvalid    = errors.New("an order needs a customer, an sku and a quantity of 1 or more")
	errOutOfStock = errors.New("out of stock")
)

// openShop makes one bun.DB for all requests. On SQLite, immediate is what lets
// transactions that read and then write wait for each other.
func openShop(ctx context.Context, dsn string) (*shop, error) {
	db := sqlscope.Open("sqlite", dsn+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	s := &shop{db, bun.NewDB(db.SQL(), sqlitedialect.New())}
	if strings.HasPrefix(dsn, "postgres") {
		db := sqlscope.Open("pgx", dsn)
		s = &shop{db, bun.NewDB(db.SQL(), pgdialect.New())}
	}
	// Outside of requests, Run begins the transaction, and nil commits it.
	return s, dbscope.Run(ctx, s.createTables)
}

func (s *shop) createTables(ctx context.Context) error {
	for _, model := range []any{(*order)(nil), (*article)(nil)} {
		if _, err := s.bun.NewCreateTable().Model(model).IfNotExists().Exec(ctx); err != nil {
			return err
		}
	}
	stock := []article{{"tea", 1000}, {"last-cup", 1}}
	_, err := s.bun.NewInsert().Model(&stock).On("CONFLICT DO NOTHING").Exec(ctx)
	return err
}

// place stores the order first. Where there is too little in stock its caller
// answers with a failure, which takes the order back.
func (s *shop) place(ctx context.Context, o order) (order, error) {
	if o.Customer == "" || o.SKU == "" || o.Quantity < 1 {
		return o, errInvalid
	}
	o.ID = rand.Text()
	if _, err := s.bun.NewInsert().Model(&o).Exec(ctx); err != nil {
		return o, err
	}
	taken, err := s.bun.NewUpdate().Model((*article)(nil)).Set("quantity = quantity - ?", o.Quantity).
		Where("sku = ?", o.SKU).Where("quantity >= ?", o.Quantity).Exec(ctx)
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
	err := s.bun.NewSelect().Model(&orders).Order("customer", "id").Scan(ctx)
	return orders, err
}
