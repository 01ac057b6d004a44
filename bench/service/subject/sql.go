package subject

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dbscope/dbscope/driver/sqlscope"
)

// openSQL opens a pool that has all its connections.
func openSQL(ctx context.Context, c Config) (*sql.DB, error) {
	config, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(c.Conns)
	db.SetMaxIdleConns(c.Conns)
	for range c.Conns {
		conn, err := db.Conn(ctx)
		if err != nil {
			_ = db.Close()
			return nil, err
		}
		defer func() { _ = conn.Close() }()
	}
	return db, nil
}

// onSQL are the statements with database/sql's methods.
type onSQL struct {
	q interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	selects, updates string
}

func (s onSQL) selectN(ctx context.Context, id int) (n int, err error) {
	err = s.q.QueryRowContext(ctx, s.selects, id).Scan(&n)
	return n, err
}

func (s onSQL) update(ctx context.Context, id int) (int, error) {
	result, err := s.q.ExecContext(ctx, s.updates, id)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// sqlByHand is what one writes with database/sql alone.
func sqlByHand(ctx context.Context, c Config) (*Subject, error) {
	db, err := openSQL(ctx, c)
	if err != nil {
		return nil, err
	}
	within := func(opts *sql.TxOptions, work func(context.Context, onSQL, int) (int, error)) func(context.Context, int) (int, error) {
		return func(ctx context.Context, id int) (int, error) {
			tx, err := db.BeginTx(ctx, opts)
			if err != nil {
				return 0, err
			}
			defer func() { _ = tx.Rollback() }() // does nothing after Commit
			n, err := work(ctx, onSQL{tx, selectN, updateN}, id)
			if err != nil {
				return 0, err
			}
			return n, tx.Commit()
		}
	}
	return &Subject{service{
		read:  within(&sql.TxOptions{ReadOnly: true}, read),
		write: within(nil, write),
		mixed: within(nil, mixed),
	}.handler(), db.Close}, nil
}

func withSqlscope(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openSQL(ctx, c)
	if err != nil {
		return nil, err
	}
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) { return pool, nil })
	s := scoped(without(onSQL{db, selectN, updateN}))
	s.Close = db.Close
	return s, nil
}
