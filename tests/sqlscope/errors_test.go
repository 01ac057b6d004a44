package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/tests/errtree"
)

// sqlRunner is all that runs statements: a *sql.DB, *sql.Tx, *sql.Conn, a DB.
type sqlRunner interface {
	execer
	querier
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// read reads all rows, of all results, into one int.
func read(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			if err := rows.Scan(new(int)); err != nil {
				return errors.Join(err, rows.Close(), rows.Err())
			}
		}
	}
	if err := rows.Close(); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return rows.Err()
}

// calls are the ways to run a statement.
var calls = map[string]func(ctx context.Context, on sqlRunner, query string, args ...any) error{
	"Exec": func(ctx context.Context, on sqlRunner, query string, args ...any) error {
		_, err := on.ExecContext(ctx, query, args...)
		return err
	},
	"Query": func(ctx context.Context, on sqlRunner, query string, args ...any) error {
		return read(on.QueryContext(ctx, query, args...))
	},
	"QueryRow": func(ctx context.Context, on sqlRunner, query string, args ...any) error {
		return on.QueryRowContext(ctx, query, args...).Scan(new(int))
	},
	"Prepare, Exec": func(ctx context.Context, on sqlRunner, query string, args ...any) error {
		stmt, err := on.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		_, err = stmt.ExecContext(ctx, args...)
		ignored(stmt.Close())
		return err
	},
	"Prepare, Query": func(ctx context.Context, on sqlRunner, query string, args ...any) error {
		stmt, err := on.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		err = read(stmt.QueryContext(ctx, args...))
		ignored(stmt.Close())
		return err
	},
	"Prepare, QueryRow": func(ctx context.Context, on sqlRunner, query string, args ...any) error {
		stmt, err := on.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		err = stmt.QueryRowContext(ctx, args...).Scan(new(int))
		ignored(stmt.Close())
		return err
	},
}

func ignored(error) {}

type failingValuer struct{}

func (failingValuer) Value() (sqldriver.Value, error) { return nil, errStop }

// statement is one that fails.
type statement struct {
	text string
	args []any
}

// failing returns statements that fail in the server, while their rows are
// read, in database/sql, and in the driver.
func failing(d *opened) map[string]statement {
	late := "SELECT abs(i) FROM (SELECT 1 AS i UNION ALL SELECT -9223372036854775808)"
	switch {
	case d.postgres:
		late = "SELECT 1 / (3 - i) FROM generate_series(1, 5) i"
	case d.ofMySQL:
		late = "SELECT (SELECT b.i FROM (SELECT 8 AS i UNION ALL SELECT 9) b WHERE b.i >= 11 - a.i) FROM (SELECT 2 AS i UNION ALL SELECT 3) a"
	}
	return map[string]statement{
		"a duplicate":                 {text: "INSERT INTO t (id) VALUES (0)"},
		"a duplicate that returns":    {text: "INSERT INTO t (id) VALUES (0) RETURNING id"},
		"a duplicate with argument":   {"INSERT INTO t (id) VALUES ($1) RETURNING id", []any{0}},
		"a missing table":             {text: "SELECT id FROM nowhere"},
		"no syntax":                   {text: "SELECT FROM WHERE"},
		"no row":                      {text: "SELECT id FROM t WHERE id < 0"},
		"a column of another type":    {text: "SELECT 'text'"},
		"two columns":                 {text: "SELECT 1, 2"},
		"NULL":                        {text: "SELECT NULL"},
		"a row that fails":            {text: late},
		"a second statement":          {text: "SELECT 1; SELECT id FROM nowhere"},
		"an argument too many":        {"SELECT id FROM t WHERE id = $1", []any{1, 2}},
		"an argument too few":         {text: "SELECT id FROM t WHERE id = $1"},
		"an argument of no use":       {"SELECT id FROM t WHERE id = $1", []any{struct{ A int }{1}}},
		"a named argument":            {"SELECT id FROM t WHERE id = $1", []any{sql.Named("id", struct{}{})}},
		"a Valuer that fails":         {"SELECT id FROM t WHERE id = $1", []any{failingValuer{}}},
		"an argument out of range":    {"SELECT id FROM t WHERE id = $1", []any{uint64(1 << 63)}},
		"an argument of another type": {"SELECT id FROM t WHERE id = $1", []any{"text"}},
	}
}

// targets are the ways into a DB.
func targets(d *opened) map[string]func(ctx context.Context, run func(on sqlRunner) error) error {
	all := map[string]func(ctx context.Context, run func(on sqlRunner) error) error{
		"SQL()":       func(_ context.Context, run func(on sqlRunner) error) error { return run(d.SQL()) },
		"joining SQL": func(_ context.Context, run func(on sqlRunner) error) error { return run(d.SQL(sqlscope.JoinBegin())) },
		"a connection of SQL()": func(ctx context.Context, run func(on sqlRunner) error) error {
			c, err := d.SQL().Conn(ctx)
			if err != nil {
				return err
			}
			defer c.Close() //nolint:errcheck // it gives the connection back
			return run(c)
		},
		"a transaction of SQL()": func(ctx context.Context, run func(on sqlRunner) error) error {
			tx, err := d.SQL().BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback() //nolint:errcheck // it is after a failure
			return run(tx)
		},
	}
	if db, is := d.scoped.(overSQL); is {
		all["the DB"] = func(_ context.Context, run func(on sqlRunner) error) error { return run(d) }
		all["the handle"] = func(ctx context.Context, run func(on sqlRunner) error) error {
			tx, err := db.Session(ctx)
			if err != nil {
				return err
			}
			return run(tx)
		}
	}
	return all
}

func TestTheErrorOfAStatementIsTheOneThatThePlainDatabaseReturns(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, insert(t.Context(), d.other, 0))
		for what, stmt := range failing(d) {
			for call, run := range calls {
				fail := func(ctx context.Context, on sqlRunner) error {
					return run(ctx, on, stmt.text, slices.Clone(stmt.args)...)
				}
				tx, err := d.other.Begin()
				ok(t, err)
				plain := errtree.Of(fail(t.Context(), tx))
				ignored(tx.Rollback())
				for target, reach := range targets(d) {
					var got string
					is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
						got = errtree.Of(reach(ctx, func(on sqlRunner) error { return fail(ctx, on) }))
						return errStop
					}), errStop)
					if got != plain {
						t.Errorf("%s, %s through %s:\n%s\nbut on a *sql.Tx:\n%s", what, call, target, got, plain)
					}
				}
				if plain == "no error" {
					continue // it would be stored
				}
				if got := errtree.Of(fail(t.Context(), d.SQL())); got != plain {
					t.Errorf("%s, %s without a scope:\n%s\nbut on a *sql.Tx:\n%s", what, call, got, plain)
				}
			}
		}
		want(t, "stored", d.stored(t), 0)
	}, dbscope.AllowUnscoped())
}
