package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"reflect"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
)

// moody fails, or panics, when the driver asks for its value.
type moody struct{ panics bool }

func (m moody) Value() (sqldriver.Value, error) {
	if m.panics {
		panic(errStop)
	}
	return nil, errStop
}

func TestAnArgumentThatFailsHarmsNothingAndOneThatPanicsLosesTheConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			_, err := d.ExecContext(ctx, "INSERT INTO t (id) VALUES ($1)", moody{})
			is(t, err, errStop)
			return nil
		}))
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 2))
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic was swallowed")
					}
				}()
				_, _ = d.SQL().QueryContext(ctx, "SELECT id FROM t WHERE id = $1", moody{panics: true})
			}()
			return nil
		}), dbscope.ErrRolledBack)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 3) }))
		want(t, "stored", d.stored(t), 1, 3)
	})
}

func TestArgumentsAndColumnsAreThoseOfThePlainDriver(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		query := "SELECT $1 AS a, $2 AS b, CAST($3 AS TEXT) AS c, id AS d, $4 AS e FROM t"
		if d.ofMySQL {
			query = strings.Replace(query, "TEXT", "CHAR", 1)
		}
		if d.mysql { // which knows the type of a parameter by what it is used for
			query = "SELECT CAST($1 AS SIGNED) AS a, CAST($2 AS CHAR) AS b, CAST($3 AS CHAR) AS c, id AS d, CAST($4 AS BINARY) AS e FROM t"
		}
		args := []any{int8(1), sql.NullString{}, "text", []byte("bytes")}
		if d.postgres {
			args = []any{"1", sql.NullString{}, "text", "bytes"}
		}
		_, err := d.other.Exec("INSERT INTO t (id) VALUES (7)")
		ok(t, err)
		plain := describe(t, d.other, t.Context(), query, args)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			for _, q := range []querier{d, d.SQL()} {
				if got := describe(t, q, ctx, query, args); !reflect.DeepEqual(got, plain) {
					t.Errorf("got\n%v\nwant\n%v", got, plain)
				}
			}
			return nil
		}))
	})
}

func describe(t *testing.T, q querier, ctx context.Context, query string, args []any) (all []any) {
	t.Helper()
	rows, err := q.QueryContext(ctx, query, args...)
	ok(t, err)
	types, err := rows.ColumnTypes()
	ok(t, err)
	for _, c := range types {
		length, hasLength := c.Length()
		precision, scale, hasPrecision := c.DecimalSize()
		nullable, hasNullable := c.Nullable()
		all = append(all, c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, precision, scale, hasPrecision, nullable, hasNullable)
	}
	for rows.Next() {
		values := make([]any, len(types))
		to := make([]any, len(types))
		for i := range to {
			to[i] = &values[i]
		}
		ok(t, rows.Scan(to...))
		all = append(all, values...)
	}
	ok(t, rows.Err())
	return all
}
