// Package after is package before when it has been moved.
package after

import (
	"context"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"

	"github.com/dbscope/dbscope/tests/readme/moving/sqlc/queries"
)

// Store runs queries in the unit of their context.
type Store struct{ *queries.Queries }

// NewStore is called once, at the start of the program.
func NewStore(db *pgxscope.DB) *Store { return &Store{queries.New(db)} } // db is the DBTX

// PlaceOrder has nothing to confuse: there is one set of queries.
func (s *Store) PlaceOrder(ctx context.Context, item string) error {
	return dbscope.Join(ctx, func(ctx context.Context) error {
		if err := s.TakeFromStock(ctx, item); err != nil {
			return err
		}
		return s.InsertOrder(ctx, item)
	})
}

// execTx makes fn a part of the unit that is there, or a unit of its own.
func (s *Store) execTx(ctx context.Context, fn func(ctx context.Context, q *queries.Queries) error) error {
	return dbscope.Join(ctx, func(ctx context.Context) error { return fn(ctx, s.Queries) })
}

var _ = (*Store).execTx
