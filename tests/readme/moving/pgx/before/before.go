// Package before passes pgx.Tx on, before it is moved.
package before

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Shop passes a transaction to everything that it calls.
type Shop struct{ pool *pgxpool.Pool }

// PlaceOrders is a use case. An order that cannot be placed is left out.
func (s *Shop) PlaceOrders(ctx context.Context, items []string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, item := range items {
			err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
				_, err := tx.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
				return err
			})
			if err != nil {
				if _, err := tx.Exec(ctx, `INSERT INTO refused (item) VALUES ($1)`, item); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
