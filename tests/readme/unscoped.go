package readme

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

var bank = sqlscope.Open("pgx", "postgres://app@127.0.0.1/bank")

// Each of the two is stored by itself, whatever becomes of the other, if ctx is not the request's and the DB has AllowUnscoped.
func transfer(ctx context.Context, from, to string, amount int) error {
	if _, err := bank.ExecContext(ctx, "UPDATE accounts SET amount = amount - $1 WHERE id = $2", amount, from); err != nil {
		return err
	}
	_, err := bank.ExecContext(ctx, "UPDATE accounts SET amount = amount + $1 WHERE id = $2", amount, to)
	return err
}

// One unit wherever it is called from: the request's, the job's, or one of its own.
func transferOnce(ctx context.Context, from, to string, amount int) error {
	return dbscope.Join(ctx, func(ctx context.Context) error { return transfer(ctx, from, to, amount) })
}

// Only what is known to be outside of units uses this DB.
var outside = sqlscope.Open("pgx", "postgres://app@127.0.0.1/bank", dbscope.AllowUnscoped())

var _, _, _, _ = transferOnce, openORM, outside, locked

// GORM asks SQLite and MariaDB for their version as it opens, under a context of its own.
func openORM() (orm *gorm.DB, err error) {
	err = bank.SetUp(func(handle *sql.DB) (err error) {
		orm, err = gorm.Open(postgres.New(postgres.Config{Conn: handle}), &gorm.Config{})
		return err
	})
	return orm, err
}

// Tools for migrations take a lock like this one, and hold it from one statement to the next.
func locked(ctx context.Context, migrate func(context.Context, *sql.Conn) error) (err error) {
	conn, err := outside.SQL().Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }() // also gives up the lock, if the DB has ResetConnections
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock(7)"); err != nil {
		return err
	}
	if err := migrate(ctx, conn); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "SELECT pg_advisory_unlock(7)")
	return err
}
