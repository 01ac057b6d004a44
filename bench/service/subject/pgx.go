package subject

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	selectN = "SELECT n FROM t WHERE id = $1"
	updateN = "UPDATE t SET n = n + 1 WHERE id = $1"
)

// openPgx opens a pool that has all its connections. configure may be nil.
func openPgx(ctx context.Context, c Config, configure func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = int32(c.Conns), int32(c.Conns)
	if configure != nil {
		configure(config)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	var all []*pgxpool.Conn
	defer func() {
		for _, conn := range all {
			conn.Release()
		}
	}()
	for range c.Conns {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return nil, err // the process ends
		}
		all = append(all, conn)
	}
	return pool, nil
}

// onPgx are the statements with pgx's methods.
type onPgx struct {
	q interface {
		Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
		QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	}
}

func (s onPgx) selectN(ctx context.Context, id int) (n int, err error) {
	err = s.q.QueryRow(ctx, selectN, id).Scan(&n)
	return n, err
}

func (s onPgx) update(ctx context.Context, id int) (int, error) {
	tag, err := s.q.Exec(ctx, updateN, id)
	return int(tag.RowsAffected()), err
}

func (s onPgx) updateLast(ctx context.Context, id int) (int, error) { return s.update(ctx, id) }

func closing(pool *pgxpool.Pool) func() error {
	return func() error {
		pool.Close()
		return nil
	}
}

// pgxByHand is what one writes without a library.
func pgxByHand(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openPgx(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	within := func(opts pgx.TxOptions, work func(context.Context, onPgx, int) (int, error)) func(context.Context, int) (int, error) {
		return func(ctx context.Context, id int) (int, error) {
			tx, err := pool.BeginTx(ctx, opts)
			if err != nil {
				return 0, err
			}
			defer func() { _ = tx.Rollback(ctx) }() // does nothing after Commit
			n, err := work(ctx, onPgx{tx}, id)
			if err != nil {
				return 0, err
			}
			return n, tx.Commit(ctx)
		}
	}
	return &Subject{service{
		read:  within(pgx.TxOptions{AccessMode: pgx.ReadOnly}, read),
		write: within(pgx.TxOptions{}, write),
		mixed: within(pgx.TxOptions{}, mixed),
	}.handler(), closing(pool)}, nil
}

// without runs the works with no unit of its own around them.
func without[S statements](s S) service {
	return service{
		read:  func(ctx context.Context, id int) (int, error) { return read(ctx, s, id) },
		write: func(ctx context.Context, id int) (int, error) { return write(ctx, s, id) },
		mixed: func(ctx context.Context, id int) (int, error) { return mixed(ctx, s, id) },
	}
}

// pgxAutocommit has no transactions: each statement is stored on its own.
func pgxAutocommit(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openPgx(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return &Subject{without(onPgx{pool}).handler(), closing(pool)}, nil
}
