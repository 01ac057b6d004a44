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

// Cancel returns something: the function that Join calls assigns it.
func (s *Shop) Cancel(ctx context.Context, id int) (item string, err error) {
	err = dbscope.Join(ctx, func(ctx context.Context) error {
		return s.db.QueryRowContext(ctx, `DELETE FROM orders WHERE id = $1 RETURNING item`, id).Scan(&item)
	})
	return item, err
}

// Find only reads: it joins nothing, and its error is the caller's to judge.
func (s *Shop) Find(ctx context.Context, id int) (item string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT item FROM orders WHERE id = $1`, id).Scan(&item)
	return item, err
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
