package subject

import (
	"context"
	"database/sql"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dbscope/dbscope/driver/sqlscope"
)

// openSQL opens a pool that has all its connections.
func openSQL(ctx context.Context, c Config) (*sql.DB, error) {
	db, err := connect(c)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(c.Conns)
	db.SetMaxIdleConns(c.Conns)
	var all []*sql.Conn
	defer func() {
		for _, conn := range all {
			_ = conn.Close() // goes back to the pool
		}
	}()
	for range c.Conns {
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, err // the process ends
		}
		all = append(all, conn)
	}
	return db, nil
}

func connect(c Config) (*sql.DB, error) {
	if c.DB == Postgres {
		config, err := pgx.ParseConfig(c.DSN)
		if err != nil {
			return nil, err
		}
		return stdlib.OpenDB(*config), nil
	}
	config, err := mysql.ParseDSN(c.DSN)
	if err != nil {
		return nil, err
	}
	config.InterpolateParams = true // else each statement takes two round trips
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// onSQL are the statements with database/sql's methods.
type onSQL struct {
	q interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	texts
}

type texts struct{ selects, updates string }

// textsFor has the statements with the placeholders of a database.
func textsFor(db string) texts {
	t := texts{selectN, updateN}
	if db == MariaDB {
		t.selects, t.updates = strings.ReplaceAll(t.selects, "$1", "?"), strings.ReplaceAll(t.updates, "$1", "?")
	}
	return t
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

func (s onSQL) updateLast(ctx context.Context, id int) (int, error) { return s.update(ctx, id) }

// sqlByHand is what one writes with database/sql alone.
func sqlByHand(ctx context.Context, c Config) (*Subject, error) {
	db, err := openSQL(ctx, c)
	if err != nil {
		return nil, err
	}
	texts := textsFor(c.DB)
	within := func(opts *sql.TxOptions, work func(context.Context, onSQL, int) (int, error)) func(context.Context, int) (int, error) {
		return func(ctx context.Context, id int) (int, error) {
			tx, err := db.BeginTx(ctx, opts)
			if err != nil {
				return 0, err
			}
			defer func() { _ = tx.Rollback() }() // does nothing after Commit
			n, err := work(ctx, onSQL{tx, texts}, id)
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

// sqlAutocommit has no transactions: each statement is stored on its own.
func sqlAutocommit(ctx context.Context, c Config) (*Subject, error) {
	db, err := openSQL(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Subject{without(onSQL{db, textsFor(c.DB)}).handler(), db.Close}, nil
}

func openSqlscope(ctx context.Context, c Config) (*sqlscope.DB, error) {
	pool, err := openSQL(ctx, c)
	if err != nil {
		return nil, err
	}
	return sqlscope.New(func(context.Context, string) (*sql.DB, error) { return pool, nil }), nil
}

func withSqlscope(ctx context.Context, c Config) (*Subject, error) {
	db, err := openSqlscope(ctx, c)
	if err != nil {
		return nil, err
	}
	return scoped(without(onSQL{db, textsFor(c.DB)}), db.Close), nil
}

func withSqlscopeSQL(ctx context.Context, c Config) (*Subject, error) {
	db, err := openSqlscope(ctx, c)
	if err != nil {
		return nil, err
	}
	return scoped(without(onSQL{db.SQL(), textsFor(c.DB)}), db.Close), nil
}
