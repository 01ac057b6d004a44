// Package sqlc is as sqlc generates one for pgx, with the function that opens it.
package sqlc

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope/driver/pgxscope"
)

type DBTX interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	QueryRow(context.Context, string, ...any) pgx.Row
}

type Queries struct{ db DBTX }

func New(db DBTX) *Queries { return &Queries{db} }

func (q *Queries) GetUser(ctx context.Context, name string) (hash string, err error) {
	err = q.db.QueryRow(ctx, "SELECT hash FROM users WHERE name = $1", name).Scan(&hash)
	return hash, err
}

func (q *Queries) CreateSession(ctx context.Context, name string) error {
	_, err := q.db.Exec(ctx, "INSERT INTO sessions VALUES ($1)", name)
	return err
}

type Querier interface {
	GetUser(ctx context.Context, name string) (hash string, err error)
	CreateSession(ctx context.Context, name string) error
}

type Store struct{ *Queries }

func Open(db *pgxscope.DB) Querier { return &Store{New(db)} }
