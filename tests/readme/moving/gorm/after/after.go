// Package after is package before when it has been moved.
package after

import (
	"context"
	"database/sql"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// Order is a row.
type Order struct {
	ID   int64
	Item string
}

// openORM opens GORM on the units of db. What GORM asks the database while it is
// opened has no unit, which SetUp allows.
func openORM(db *pgxscope.DB) (orm *gorm.DB, err error) {
	err = db.SetUp(func(handle *sql.DB) (err error) {
		orm, err = gorm.Open(postgres.New(postgres.Config{Conn: handle}), &gorm.Config{})
		return err
	}, sqlscope.JoinBegin()) // GORM's own BEGIN around each write costs nothing then
	return orm, err
}

// Shop has no transaction in its signatures.
type Shop struct{ orm *gorm.DB }

// PlaceOrder is a use case.
func (s *Shop) PlaceOrder(ctx context.Context, item string) error {
	return dbscope.Join(ctx, func(ctx context.Context) error {
		if err := s.take(ctx, item); err != nil {
			return err
		}
		return s.orm.WithContext(ctx).Create(&Order{Item: item}).Error
	})
}

func (s *Shop) take(ctx context.Context, item string) error {
	return s.orm.WithContext(ctx).Exec(`UPDATE stock SET n = n - 1 WHERE item = ?`, item).Error
}

var _ = openORM
