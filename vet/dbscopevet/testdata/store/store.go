// Package store is what the tests of the rules import: a DB, and functions that use it.
package store

import (
	"context"
	"database/sql"
	"net/http"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

var (
	Shop    = sqlscope.Open("sqlite", "shop.db")
	Outside = sqlscope.Open("sqlite", "shop.db", dbscope.AllowUnscoped())
)

func Place(ctx context.Context, item string) error { return insert(ctx, item) }

func insert(ctx context.Context, item string) error {
	_, err := Shop.ExecContext(ctx, "INSERT INTO orders VALUES (?)", item)
	return err
}

// Begins is a unit wherever it is called.
func Begins(ctx context.Context) error {
	return dbscope.Run(ctx, func(ctx context.Context) error { return insert(ctx, "tea") })
}

func Joins(ctx context.Context) error {
	return dbscope.Join(ctx, func(ctx context.Context) error { return insert(ctx, "tea") })
}

func Log(ctx context.Context, text string) {}

func Check(ctx context.Context, text string) error { return ctx.Err() }

func Charge(client *http.Client, r *http.Request) error {
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// DBTX is that of sqlc.
type DBTX interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

type Queries struct{ db DBTX }

func New(db DBTX) *Queries { return &Queries{db} }

func (q *Queries) CreateOrder(ctx context.Context, item string) error {
	_, err := q.db.ExecContext(ctx, "INSERT INTO orders VALUES (?)", item)
	return err
}
