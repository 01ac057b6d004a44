package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// scoped is what the tests use of a DB, whichever adapter's it is.
type scoped interface {
	execer
	querier
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	SQL(opts ...sqlscope.SQLOption) *sql.DB
	SetUp(fn func(handle *sql.DB) error, opts ...sqlscope.SQLOption) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
	Release(ctx context.Context) error
	Atomic(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
	BeforeCommit(ctx context.Context, hook func(context.Context) error) error
	AfterCommit(ctx context.Context, hook func(context.Context) error) error
	AfterRollback(ctx context.Context, hook func(context.Context) error) error
	Close() error
	handle(ctx context.Context) (execer, error)
	acquired(ctx context.Context) (int, error) // connections in use
}

// overSQL is sqlscope's.
type overSQL struct{ *sqlscope.DB }

func (d overSQL) handle(ctx context.Context) (execer, error) { return d.Session(ctx) }

func (d overSQL) acquired(ctx context.Context) (int, error) {
	pool, err := d.Engine(ctx)
	if err != nil {
		return 0, err
	}
	return pool.Stats().InUse, nil
}

// overPgx is pgxscope's. What returns a type of database/sql that nobody else
// can make is SQL()'s, so that a test mixes both on one session.
type overPgx struct{ *pgxscope.DB }

func (d overPgx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := d.Exec(ctx, query, args...)
	return sqldriver.RowsAffected(tag.RowsAffected()), err
}

func (d overPgx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return d.SQL().QueryContext(ctx, query, args...)
}

func (d overPgx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return d.SQL().QueryRowContext(ctx, query, args...)
}

func (d overPgx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return d.SQL().PrepareContext(ctx, query)
}

func (d overPgx) handle(ctx context.Context) (execer, error) {
	tx, err := d.Session(ctx)
	return pgxTx{tx}, err
}

func (d overPgx) acquired(ctx context.Context) (int, error) {
	pool, err := d.Pool(ctx)
	if err != nil {
		return 0, err
	}
	return int(pool.Stat().AcquiredConns()), nil
}

type pgxTx struct{ pgx.Tx }

func (tx pgxTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := tx.Exec(ctx, query, args...)
	return sqldriver.RowsAffected(tag.RowsAffected()), err
}

// leaveOne lets the pool have one connection for the test.
func (d *opened) leaveOne(t *testing.T) {
	switch db := d.scoped.(type) {
	case overSQL:
		pool, err := db.Engine(t.Context())
		ok(t, err)
		pool.SetMaxOpenConns(1)
	case overPgx:
		pool, err := db.Pool(t.Context())
		ok(t, err)
		for range pool.Config().MaxConns - 1 {
			c, err := pool.Acquire(t.Context())
			ok(t, err)
			t.Cleanup(c.Release)
		}
	}
}
