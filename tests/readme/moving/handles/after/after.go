// Package after is the service of package before when it has been moved.
package after

import (
	"context"
	"database/sql"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// Shop has no transaction in its signatures.
type Shop struct{ db *sqlscope.DB }

// PlaceOrder is a use case.
func (s *Shop) PlaceOrder(ctx context.Context, item string) error {
	return dbscope.Join(ctx, func(ctx context.Context) error {
		if err := s.take(ctx, item); err != nil {
			return err
		}
		return s.store(ctx, item)
	})
}

func (s *Shop) take(ctx context.Context, item string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, item)
	return err
}

func (s *Shop) store(ctx context.Context, item string) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}

// inTx keeps its signature, so that nothing that calls it has to change.
func (s *Shop) inTx(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return dbscope.Join(ctx, func(ctx context.Context) error {
		tx, err := s.db.Session(ctx)
		if err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

var _ = (*Shop).inTx
