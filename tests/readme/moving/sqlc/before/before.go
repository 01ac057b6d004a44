// Package before uses WithTx of sqlc.
package before

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope/tests/readme/moving/sqlc/queries"
)

// Store runs queries, alone or in a transaction.
type Store struct {
	pool *pgxpool.Pool
	*queries.Queries
}

func (s *Store) execTx(ctx context.Context, fn func(q *queries.Queries) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return fn(s.WithTx(tx)) })
}

// PlaceOrder must use q, and not s, in its function.
func (s *Store) PlaceOrder(ctx context.Context, item string) error {
	return s.execTx(ctx, func(q *queries.Queries) error {
		if err := q.TakeFromStock(ctx, item); err != nil {
			return err
		}
		return q.InsertOrder(ctx, item)
	})
}
