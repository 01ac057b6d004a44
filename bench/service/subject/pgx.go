package subject

import (
	"context"

	"github.com/avito-tech/go-transaction-manager/drivers/pgxv5/v2"
	"github.com/avito-tech/go-transaction-manager/trm/v2/manager"
	"github.com/avito-tech/go-transaction-manager/trm/v2/settings"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

const (
	selectN = "SELECT n FROM t WHERE id = $1"
	updateN = "UPDATE t SET n = n + 1 WHERE id = $1"
)

// openPgx opens a pool that has all its connections.
func openPgx(ctx context.Context, c Config) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = int32(c.Conns), int32(c.Conns)
	pgxscope.Configure(config) // pgx by hand is no slower with it
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	for range c.Conns {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			pool.Close()
			return nil, err
		}
		defer conn.Release()
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

func closing(pool *pgxpool.Pool) func() error {
	return func() error {
		pool.Close()
		return nil
	}
}

// pgxByHand is what one writes without a library.
func pgxByHand(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openPgx(ctx, c)
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
	pool, err := openPgx(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Subject{without(onPgx{pool}).handler(), closing(pool)}, nil
}

// avito is go-transaction-manager, as its documentation shows it.
func avito(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openPgx(ctx, c)
	if err != nil {
		return nil, err
	}
	trm := manager.Must(pgxv5.NewDefaultFactory(pool))
	getter := pgxv5.DefaultCtxGetter
	within := func(opts pgx.TxOptions, work func(context.Context, onPgx, int) (int, error)) func(context.Context, int) (int, error) {
		s := pgxv5.MustSettings(settings.Must(), pgxv5.WithTxOptions(opts))
		return func(ctx context.Context, id int) (n int, err error) {
			err = trm.DoWithSettings(ctx, s, func(ctx context.Context) error {
				n, err = work(ctx, onPgx{getter.DefaultTrOrDB(ctx, pool)}, id)
				return err
			})
			return n, err
		}
	}
	return &Subject{service{
		read:  within(pgx.TxOptions{AccessMode: pgx.ReadOnly}, read),
		write: within(pgx.TxOptions{}, write),
		mixed: within(pgx.TxOptions{}, mixed),
	}.handler(), closing(pool)}, nil
}

// scoped is a service whose requests are units.
func scoped(s service) *Subject {
	return &Subject{Handler: httpscope.Middleware(httpscope.ReadOnlySafeMethods())(s.handler())}
}

func openPgxscope(ctx context.Context, c Config) (*pgxscope.DB, error) {
	pool, err := openPgx(ctx, c)
	if err != nil {
		return nil, err
	}
	return pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil }), nil
}

func withPgxscope(ctx context.Context, c Config) (*Subject, error) {
	db, err := openPgxscope(ctx, c)
	if err != nil {
		return nil, err
	}
	s := scoped(without(onPgx{db}))
	s.Close = db.Close
	return s, nil
}

// withPgxscopeSQL has database/sql in its handlers.
func withPgxscopeSQL(ctx context.Context, c Config) (*Subject, error) {
	db, err := openPgxscope(ctx, c)
	if err != nil {
		return nil, err
	}
	s := scoped(without(onSQL{db.SQL(), selectN, updateN}))
	s.Close = db.Close
	return s, nil
}
