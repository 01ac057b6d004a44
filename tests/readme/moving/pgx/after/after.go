// Package after is that of package before when it has been moved.
package after

import (
	"context"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// Shop has no transaction in its signatures.
type Shop struct{ db *pgxscope.DB }

// PlaceOrders is a use case. An order that cannot be placed is left out.
func (s *Shop) PlaceOrders(ctx context.Context, items []string) error {
	return dbscope.Join(ctx, func(ctx context.Context) error {
		for _, item := range items {
			err := s.db.Atomic(ctx, func(ctx context.Context) error { // a savepoint
				_, err := s.db.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
				return err
			})
			if err != nil {
				if _, err := s.db.Exec(ctx, `INSERT INTO refused (item) VALUES ($1)`, item); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
