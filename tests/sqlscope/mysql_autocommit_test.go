package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// With autocommit off a statement of its own would begin a transaction that nobody
// commits: it would return nil, and be undone with its connection.
func TestOnMariaDBAndMySQLWithoutAutocommitAStatementWithoutAScopeIsRefused(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		dsn := p.shared(t).CreateDatabase(t)
		other, err := sql.Open("mysql", dsn)
		ok(t, err)
		t.Cleanup(func() { ok(t, other.Close()) })
		_, err = other.Exec("CREATE TABLE t (id INT)")
		ok(t, err)
		d := sqlscope.Open("mysql", dsn+"?autocommit=0", dbscope.AllowUnscoped())
		t.Cleanup(func() { ok(t, d.Close()) })
		prepared, err := d.PrepareContext(t.Context(), "INSERT INTO t (id) VALUES (?)")
		ok(t, err)
		t.Cleanup(func() { ok(t, prepared.Close()) })
		ways := map[string]func(ctx context.Context, id int) error{
			"Exec": func(ctx context.Context, id int) error {
				_, err := d.ExecContext(ctx, "INSERT INTO t (id) VALUES (?)", id)
				return err
			},
			"SQL": func(ctx context.Context, id int) error {
				_, err := d.SQL().ExecContext(ctx, "INSERT INTO t (id) VALUES (?)", id)
				return err
			},
			"prepared": func(ctx context.Context, id int) error { _, err := prepared.ExecContext(ctx, id); return err },
			"Query": func(ctx context.Context, id int) error {
				query := "INSERT INTO t (id) VALUES (?) RETURNING id"
				if p.mysql { // which returns no rows, so that there is nothing to scan
					query = "INSERT INTO t (id) VALUES (?)"
				}
				rows, err := d.QueryContext(ctx, query, id)
				if err != nil {
					return err
				}
				return errors.Join(rows.Err(), rows.Close())
			},
		}
		for name, insert := range ways {
			if err := insert(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "autocommit") {
				t.Errorf("%s without a scope: %v", name, err)
			}
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, 2) }))
		}
		var refused, stored int
		ok(t, other.QueryRow("SELECT SUM(id = 1), SUM(id = 2) FROM t").Scan(&refused, &stored))
		if refused != 0 || stored != len(ways) {
			t.Errorf("%d rows were refused and are stored, %d of units are", refused, stored)
		}
	})
}
