// Package queries is what sqlc generates for pgx, in short.
package queries

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DBTX is what runs the queries.
type DBTX interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
}

// New makes queries that run on db.
func New(db DBTX) *Queries { return &Queries{db: db} }

// Queries has a method for each query.
type Queries struct{ db DBTX }

// WithTx makes queries that run on tx.
func (q *Queries) WithTx(tx pgx.Tx) *Queries { return &Queries{db: tx} }

// TakeFromStock is a query.
func (q *Queries) TakeFromStock(ctx context.Context, item string) error {
	_, err := q.db.Exec(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, item)
	return err
}

// InsertOrder is a query.
func (q *Queries) InsertOrder(ctx context.Context, item string) error {
	_, err := q.db.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}
