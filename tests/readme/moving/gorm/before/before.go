// Package before passes a *gorm.DB on.
package before

import (
	"context"

	"gorm.io/gorm"
)

// Order is a row.
type Order struct {
	ID   int64
	Item string
}

// Shop passes tx to everything that it calls.
type Shop struct{ orm *gorm.DB }

// PlaceOrder is a use case.
func (s *Shop) PlaceOrder(ctx context.Context, item string) error {
	return s.orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := s.take(tx, item); err != nil {
			return err
		}
		return tx.Create(&Order{Item: item}).Error
	})
}

func (s *Shop) take(tx *gorm.DB, item string) error {
	return tx.Exec(`UPDATE stock SET n = n - 1 WHERE item = ?`, item).Error
}
