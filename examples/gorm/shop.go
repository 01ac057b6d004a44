package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"strings"

	"github.com/glebarez/sqlite"       // GORM's SQLite without cgo; it has the driver "sqlite"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/dbscope/dbscope/driver/sqlscope"
)

// shop sells what is in stock. Its functions take a context and no transaction:
// what GORM does with the context of one request is in one transaction.
type shop struct {
	db  *sqlscope.DB
	orm *gorm.DB
}

type order struct {
	ID       string `json:"id" gorm:"primaryKey"`
	Customer string `json:"customer"`
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

type article struct {
	SKU      string `gorm:"primaryKey"`
	Quantity int
}

var (
	errInvalid    = errors.New("an order needs a customer, an sku and a quantity of 1 or more")
	errOutOfStock = errors.New("out of stock")
)

// openShop opens GORM once, for all requests. On SQLite, immediate is what lets
// transactions that read and then write wait for each other.
func openShop(ctx context.Context, dsn string) (*shop, error) {
	s := &shop{db: sqlscope.Open("sqlite", dsn+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")}
	dialect := func(handle *sql.DB) gorm.Dialector { return sqlite.Dialector{Conn: handle} }
	if strings.HasPrefix(dsn, "postgres") {
		s.db = sqlscope.Open("pgx", dsn)
		dialect = func(handle *sql.DB) gorm.Dialector { return postgres.New(postgres.Config{Conn: handle}) }
	}
	// Until this function returns, GORM may use the database outside of requests:
	// to ask for its version, to migrate. After that it works on the handle alone.
	return s, s.db.SetUp(func(handle *sql.DB) (err error) {
		// The request is a transaction already, so GORM need not make one of each write.
		s.orm, err = gorm.Open(dialect(handle), &gorm.Config{SkipDefaultTransaction: true})
		if err != nil {
			return err
		}
		if err := s.orm.WithContext(ctx).AutoMigrate(&order{}, &article{}); err != nil {
			return err
		}
		stock := []article{{"tea", 1000}, {"last-cup", 1}}
		return s.orm.WithContext(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&stock).Error
	})
}

// place stores the order first. Where there is too little in stock its caller
// answers with a failure, which takes the order back. With GORM's generic
// functions nobody forgets the context; s.orm.WithContext(ctx) does the same.
func (s *shop) place(ctx context.Context, o order) (order, error) {
	if o.Customer == "" || o.SKU == "" || o.Quantity < 1 {
		return o, errInvalid
	}
	o.ID = rand.Text()
	if err := gorm.G[order](s.orm).Create(ctx, &o); err != nil {
		return o, err
	}
	taken, err := gorm.G[article](s.orm).Where("sku = ? and quantity >= ?", o.SKU, o.Quantity).
		Update(ctx, "quantity", gorm.Expr("quantity - ?", o.Quantity))
	if err != nil || taken == 1 {
		return o, err
	}
	return o, errOutOfStock
}

func (s *shop) list(ctx context.Context) ([]order, error) {
	return gorm.G[order](s.orm).Order("customer, id").Find(ctx)
}
