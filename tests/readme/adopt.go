package readme

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// register is not moved yet: it begins and ends its transaction itself.
func register(ctx context.Context, pool *sql.DB, name string) (err error) {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	committed := false
	joined, ended, err := shop.Adopt(ctx, tx)
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	defer func() { err = errors.Join(err, ended(ctx, committed)) }()
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing

	if _, err := tx.ExecContext(ctx, `INSERT INTO customers (name) VALUES ($1)`, name); err != nil {
		return err
	}
	if err := placeOrder(joined, "tea"); err != nil { // is moved: it knows nothing of tx
		return err
	}
	err = tx.Commit()
	committed = err == nil
	return err
}

// The pool that the service has already is the one under the DB.
func onePool(pool *sql.DB) *sqlscope.DB {
	return sqlscope.New(func(context.Context, string) (*sql.DB, error) { return pool, nil })
}

// inAdopted is what to call in each function that still has a transaction in its
// hands.
func inAdopted(ctx context.Context, db *pgxscope.DB, pool *pgxpool.Pool, fn func(ctx context.Context, tx pgx.Tx) error) (err error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	joined, ended, err := db.Adopt(ctx, tx)
	if err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	committed := false
	defer func() { err = errors.Join(err, ended(ctx, committed)) }()
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // also where fn panics
	if err := fn(joined, tx); err != nil {
		return err
	}
	err = tx.Commit(ctx)
	committed = err == nil
	return err
}

var _, _, _ = register, onePool, inAdopted
