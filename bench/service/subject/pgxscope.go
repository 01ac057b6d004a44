package subject

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// scoped is a service whose requests are units: its functions need no
// transaction of their own.
func scoped(s service, closeDB func() error, opts ...dbscope.Option) *Subject {
	middleware := httpscope.Middleware(httpscope.ReadOnlySafeMethods(), httpscope.ScopeOptions(opts...))
	return &Subject{middleware(s.handler()), closeDB}
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

// withAwaitEnd waits for the answer to each COMMIT.
func withAwaitEnd(ctx context.Context, c Config) (*Subject, error) {
	db, err := openPgxscope(ctx, c)
	if err != nil {
		return nil, err
	}
	return scoped(without(onPgx{db}), db.Close, dbscope.AwaitEnd()), nil
}

// committing are the statements of pgxscope, the last of which commits.
type committing struct {
	onPgx
	db *pgxscope.DB
}

func (s committing) updateLast(ctx context.Context, id int) (int, error) {
	tag, err := s.db.ExecCommit(ctx, updateN, id)
	return int(tag.RowsAffected()), err
}

// withExecCommit sends COMMIT with the last statement of a unit that writes.
func withExecCommit(ctx context.Context, c Config) (*Subject, error) {
	db, err := openPgxscope(ctx, c)
	if err != nil {
		return nil, err
	}
	return scoped(without(committing{onPgx{db}, db}), db.Close), nil
}

// withPgxscopeSQL has database/sql in its handlers.
func withPgxscopeSQL(ctx context.Context, c Config) (*Subject, error) {
	db, err := openPgxscope(ctx, c)
	if err != nil {
		return nil, err
	}
	return scoped(without(onSQL{db.SQL(), textsFor(c.DB)}), db.Close), nil
}
