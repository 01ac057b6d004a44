package pgxscope_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/tests/errtree"
)

// runner is all that runs statements: a pgx.Tx, a DB.
type runner interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
}

// read reads all rows into one int.
func read(rows pgx.Rows, err error) string {
	said := []string{errtree.Of(err)}
	for rows.Next() {
		if err := rows.Scan(new(int)); err != nil {
			said = append(said, errtree.Of(err))
			break
		}
	}
	rows.Close()
	return strings.Join(append(said, errtree.Of(rows.Err())), "\nthen ")
}

var prepared atomic.Int64

func batch(query string, args ...any) *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue("SELECT 1")
	b.Queue(query, args...)
	b.Queue("SELECT 2")
	return b
}

// calls are the ways to run a statement, and what each says of a failure.
var calls = map[string]func(ctx context.Context, on runner, query string, args ...any) string{
	"Exec": func(ctx context.Context, on runner, query string, args ...any) string {
		_, err := on.Exec(ctx, query, args...)
		return errtree.Of(err)
	},
	"Query": func(ctx context.Context, on runner, query string, args ...any) string {
		return read(on.Query(ctx, query, args...))
	},
	"QueryRow": func(ctx context.Context, on runner, query string, args ...any) string {
		return errtree.Of(on.QueryRow(ctx, query, args...).Scan(new(int)))
	},
	"SendBatch, Exec": func(ctx context.Context, on runner, query string, args ...any) string {
		results := on.SendBatch(ctx, batch(query, args...))
		said := []string{}
		for range 3 {
			_, err := results.Exec()
			said = append(said, errtree.Of(err))
		}
		return strings.Join(append(said, errtree.Of(results.Close())), "\nthen ")
	},
	"SendBatch, Query": func(ctx context.Context, on runner, query string, args ...any) string {
		results := on.SendBatch(ctx, batch(query, args...))
		said := []string{}
		for range 3 {
			said = append(said, read(results.Query()))
		}
		return strings.Join(append(said, errtree.Of(results.Close())), "\nthen ")
	},
	"SendBatch, QueryRow": func(ctx context.Context, on runner, query string, args ...any) string {
		results := on.SendBatch(ctx, batch(query, args...))
		said := []string{}
		for range 3 {
			said = append(said, errtree.Of(results.QueryRow().Scan(new(int))))
		}
		return strings.Join(append(said, errtree.Of(results.Close())), "\nthen ")
	},
	"SendBatch, Close": func(ctx context.Context, on runner, query string, args ...any) string {
		return errtree.Of(on.SendBatch(ctx, batch(query, args...)).Close())
	},
	"Prepare": func(ctx context.Context, on runner, query string, _ ...any) string {
		tx, is := on.(pgx.Tx)
		if !is {
			return ""
		}
		_, err := tx.Prepare(ctx, fmt.Sprint("prepared ", prepared.Add(1)), query)
		return errtree.Of(err)
	},
	"CopyFrom": func(ctx context.Context, on runner, query string, args ...any) string {
		_, err := on.CopyFrom(ctx, pgx.Identifier{query}, []string{"id"}, pgx.CopyFromRows([][]any{args}))
		return errtree.Of(err)
	},
	"CopyFrom a source that fails": func(ctx context.Context, on runner, _ string, _ ...any) string {
		_, err := on.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id"}, pgx.CopyFromFunc(func() ([]any, error) { return nil, errStop }))
		return errtree.Of(err)
	},
	"CopyFrom duplicates": func(ctx context.Context, on runner, _ string, _ ...any) string {
		_, err := on.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id"}, pgx.CopyFromRows([][]any{{5}, {5}}))
		return errtree.Of(err)
	},
}

// failing are statements that fail in the server, while their rows are read,
// and in pgx.
var failing = map[string]struct {
	text string
	args []any
}{
	"a duplicate":                 {text: "INSERT INTO t (id) VALUES (0)"},
	"a duplicate with argument":   {"INSERT INTO t (id) VALUES ($1) RETURNING id", []any{0}},
	"a missing table":             {text: "SELECT id FROM nowhere"},
	"no syntax":                   {text: "SELECT FROM WHERE"},
	"nothing":                     {text: ""},
	"no row":                      {text: "SELECT id FROM t WHERE id < 0"},
	"a column of another type":    {text: "SELECT 'text'"},
	"two columns":                 {text: "SELECT 1, 2"},
	"NULL":                        {text: "SELECT NULL::int"},
	"a row that fails":            {"SELECT 1 / (3 - i) FROM generate_series(1, $1) i", []any{5}},
	"a row that fails at once":    {text: "SELECT 1 / (3 - i) FROM generate_series(1, 5) i"},
	"an argument too many":        {"SELECT id FROM t WHERE id = $1", []any{1, 2}},
	"an argument too few":         {text: "SELECT id FROM t WHERE id = $1"},
	"an argument of no use":       {"SELECT id FROM t WHERE id = $1", []any{struct{ A int }{1}}},
	"an argument of another type": {"SELECT id FROM t WHERE id = $1", []any{"text"}},
	"an argument out of range":    {"SELECT id FROM t WHERE id = $1", []any{uint64(1 << 63)}},
}

func TestTheErrorOfAStatementIsTheOneThatPgxReturns(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d := open(t, mode, dbscope.AllowUnscoped())
			ok(t, insert(t.Context(), d, 0))
			config, err := pgxpool.ParseConfig(d.dsn)
			ok(t, err)
			config.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			ok(t, err)
			defer pool.Close()
			for what, stmt := range failing {
				for call, run := range calls {
					if stmt.text == "" && strings.HasPrefix(call, "SendBatch") {
						continue // pgx panics
					}
					if what != "a duplicate" && strings.HasPrefix(call, "CopyFrom ") {
						continue // the statement is no part of it
					}
					fail := func(ctx context.Context, on runner) string {
						return run(ctx, on, stmt.text, slices.Clone(stmt.args)...)
					}
					tx, err := pool.Begin(t.Context())
					ok(t, err)
					plain := fail(t.Context(), tx)
					_ = tx.Rollback(t.Context())                // some have closed the connection
					for _, first := range []bool{true, false} { // else BEGIN is sent before
						for target, reach := range map[string]func(context.Context) runner{
							"the DB":     func(context.Context) runner { return d },
							"the handle": func(ctx context.Context) runner { tx, err := d.Session(ctx); ok(t, err); return tx },
							"a nested transaction": func(ctx context.Context) runner {
								tx, err := d.Session(ctx)
								ok(t, err)
								tx, err = tx.Begin(ctx)
								ok(t, err)
								return tx
							},
						} {
							if target == "the DB" && call == "Prepare" {
								continue
							}
							var got string
							is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
								if !first {
									ok(t, insert(ctx, d, 1))
								}
								got = fail(ctx, reach(ctx))
								return errStop
							}), errStop)
							if got != plain {
								t.Errorf("%s, %s through %s (first: %v):\n%s\nbut by pgx:\n%s", what, call, target, first, got, plain)
							}
						}
					}
				}
			}
			want(t, "stored", d.stored(t), 0)
		})
	}
}

func TestTheErrorsOfATransactionAreThoseOfPgxWithTheNameOfTheDB(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d := open(t, mode)
			pool, err := pgxpool.New(t.Context(), d.dsn)
			ok(t, err)
			defer pool.Close()
			const violate, abort = "INSERT INTO t (id, parent) VALUES (1, 99)", "SELECT 1 / 0"
			for _, query := range []string{violate, abort} {
				tx, err := pool.Begin(t.Context())
				ok(t, err)
				_, _ = tx.Exec(t.Context(), query)
				plain := tx.Commit(t.Context())
				var early, handle error
				end := dbscope.Run(t.Context(), func(ctx context.Context) error { _, _ = d.Exec(ctx, query); return nil })
				_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, _ = d.Exec(ctx, query)
					early = d.Commit(ctx)
					return nil
				})
				_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
					tx, err := d.Session(ctx)
					ok(t, err)
					_, _ = tx.Exec(ctx, query)
					handle = tx.Commit(ctx)
					return nil
				})
				for name, err := range map[string]error{"the end of a unit": end, "an early commit": early, "the handle": handle} {
					is(t, err, dbscope.ErrRolledBack)
					if query == violate && !strings.Contains(errtree.Of(err), errtree.Of(plain)) {
						t.Errorf("%s: %s\nbut by pgx: %s", name, errtree.Of(err), errtree.Of(plain))
					}
				}
			}
			want(t, "stored", d.stored(t))
		})
	}
}

func TestAUnitThatMeetsWhatPgxRemembersOfAnAlteredTableIsRunAgain(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d := open(t, mode)
			ddl := func(text string) {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { _, err := d.Exec(ctx, text); return err }))
			}
			for call, run := range calls {
				if strings.HasPrefix(call, "CopyFrom") || call == "Prepare" {
					continue
				}
				attempts := 0
				unit := func(ctx context.Context) error {
					attempts++
					_ = run(ctx, d, "SELECT * FROM p WHERE id = $1", 0)
					return nil // and COMMIT tells
				}
				ddl("CREATE TABLE p (id INTEGER, name TEXT)")
				ok(t, dbscope.Run(t.Context(), unit, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Nanosecond})))
				ddl("ALTER TABLE p ADD COLUMN more INTEGER")
				attempts = 0
				ok(t, dbscope.Run(t.Context(), unit, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Nanosecond})))
				if stale := mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeCacheDescribe; stale != (attempts == 2) {
					t.Errorf("%s: %d attempts", call, attempts)
				}
				ddl("DROP TABLE p")
			}
		})
	}
}
