// Package before is a service that passes *sql.Tx on, before it is moved.
package before

import (
	"context"
	"database/sql"
)

// Shop passes a transaction to everything that it calls.
type Shop struct{ pool *sql.DB }

// PlaceOrder is a use case.
func (s *Shop) PlaceOrder(ctx context.Context, item string) error {
	tx, err := s.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := s.take(ctx, tx, item); err != nil {
		return err
	}
	if err := s.store(ctx, tx, item); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *Shop) take(ctx context.Context, tx *sql.Tx, item string) error {
	_, err := tx.ExecContext(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, item)
	return err
}

func (s *Shop) store(ctx context.Context, tx *sql.Tx, item string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}

// Find only reads, and never commits.
func (s *Shop) Find(ctx context.Context, id int) (item string, err error) {
	tx, err := s.pool.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }()
	err = tx.QueryRowContext(ctx, `SELECT item FROM orders WHERE id = $1`, id).Scan(&item)
	return item, err
}

// inTx is what many services have: all their use cases go through it.
func (s *Shop) inTx(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

var _ = (*Shop).inTx
