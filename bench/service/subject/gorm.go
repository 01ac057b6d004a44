package subject

import (
	"context"
	"database/sql"

	gormmysql "gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/dbscope/dbscope/driver/sqlscope"
)

// row is GORM's model of the table.
type row struct {
	ID int `gorm:"primaryKey"`
	N  int
}

// TableName is what GORM asks for.
func (row) TableName() string { return "t" }

func openGORM(db string, pool *sql.DB) (*gorm.DB, error) {
	dialector := postgres.New(postgres.Config{Conn: pool})
	if db == MariaDB {
		dialector = gormmysql.New(gormmysql.Config{Conn: pool, SkipInitializeWithVersion: true})
	}
	// A transaction of GORM's own around each write would be a savepoint in ours.
	return gorm.Open(dialector, &gorm.Config{SkipDefaultTransaction: true, DisableAutomaticPing: true, Logger: logger.Discard})
}

// onGORM are the statements with GORM's methods.
type onGORM struct{ db *gorm.DB }

func (s onGORM) selectN(ctx context.Context, id int) (int, error) {
	var r row
	err := s.db.WithContext(ctx).Select("n").Take(&r, id).Error
	return r.N, err
}

func (s onGORM) update(ctx context.Context, id int) (int, error) {
	result := s.db.WithContext(ctx).Model(&row{}).Where("id = ?", id).UpdateColumn("n", gorm.Expr("n + 1"))
	return int(result.RowsAffected), result.Error
}

func (s onGORM) updateLast(ctx context.Context, id int) (int, error) { return s.update(ctx, id) }

// gormByHand is GORM with its Transaction.
func gormByHand(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openSQL(ctx, c)
	if err != nil {
		return nil, err
	}
	orm, err := openGORM(c.DB, pool)
	if err != nil {
		return nil, err
	}
	within := func(opts *sql.TxOptions, work func(context.Context, onGORM, int) (int, error)) func(context.Context, int) (int, error) {
		return func(ctx context.Context, id int) (n int, err error) {
			err = orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				n, err = work(ctx, onGORM{tx}, id)
				return err
			}, opts)
			return n, err
		}
	}
	return &Subject{service{
		read:  within(&sql.TxOptions{ReadOnly: true}, read),
		write: within(&sql.TxOptions{}, write),
		mixed: within(&sql.TxOptions{}, mixed),
	}.handler(), pool.Close}, nil
}

// gormOver is GORM as it is, on the SQL() of pgxscope or sqlscope.
func gormOver(ctx context.Context, c Config) (*Subject, error) {
	var db interface {
		SQL(opts ...sqlscope.SQLOption) *sql.DB
		Close() error
	}
	var err error
	if c.DB == Postgres {
		db, err = openPgxscope(ctx, c)
	} else {
		db, err = openSqlscope(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	orm, err := openGORM(c.DB, db.SQL())
	if err != nil {
		return nil, err
	}
	return scoped(without(onGORM{orm}), db.Close), nil
}
