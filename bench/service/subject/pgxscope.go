package subject

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// scoped is a service whose requests are units: its functions need no
// transaction of their own.
func scoped(s service, closeDB func() error) *Subject {
	return &Subject{httpscope.Middleware(httpscope.ReadOnlySafeMethods())(s.handler()), closeDB}
}

func openPgxscope(ctx context.Context, c Config) (*pgxscope.DB, error) {
	pool, err := openPgx(ctx, c, pgxscope.Configure)
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
	return scoped(without(onPgx{db}), db.Close), nil
}

// withPgxscopeSQL has database/sql in its handlers.
func withPgxscopeSQL(ctx context.Context, c Config) (*Subject, error) {
	db, err := openPgxscope(ctx, c)
	if err != nil {
		return nil, err
	}
	return scoped(without(onSQL{db.SQL(), textsFor(c.DB)}), db.Close), nil
}
