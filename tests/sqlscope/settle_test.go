package sqlscope_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
)

// A database that has no such ids would answer with another transaction's fate, or with
// an error after the first lost COMMIT.
func TestSettlingByStatusIsRefusedBeforeTheFirstUnitWhereTheDatabaseIsNotPostgreSQL(t *testing.T) {
	refused := func(t *testing.T, d *opened, name string) {
		t.Helper()
		for range 2 {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				rows, err := d.QueryContext(ctx, "SELECT id FROM t")
				if err != nil {
					return err
				}
				want(t, "read", scan(t, rows))
				return nil
			}, dbscope.ReadOnly()))
			err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) })
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "SettleByLedger") {
				t.Errorf("the error is %v", err)
			}
		}
		want(t, "stored", d.stored(t))
		want(t, "connections in use", []int{d.inUse(t)}, 0)
	}
	for name, one := range databases {
		t.Run(name, func(t *testing.T) {
			if !one.postgres {
				d := open(t, one, dbscope.SettleByStatus())
				if one.driver != "sqlite" {
					refused(t, d, "another database (")
				}
				err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) })
				if err == nil || !strings.Contains(err.Error(), "SettleByStatus takes PostgreSQL") {
					t.Errorf("the error is %v", err)
				}
				return
			}
			for version, says := range map[string]string{
				"PostgreSQL 15.12-YB-2025.1.0.1-b0 on x86_64-pc-linux-gnu": "YugabyteDB",
				"CockroachDB CCL v25.2.0 (x86_64-pc-linux-gnu)":            "CockroachDB",
			} {
				pretends := one
				pretends.dsn = func(t *testing.T) string { return one.dsn(t) + "&search_path=public,pg_catalog" }
				d := open(t, pretends, dbscope.SettleByStatus())
				_, err := d.other.Exec("CREATE FUNCTION public.version() RETURNS text LANGUAGE sql AS $$ SELECT '" + version + "' $$")
				ok(t, err)
				refused(t, d, says)
			}
			d := open(t, one, dbscope.SettleByStatus())
			for id := range 2 {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, id) }))
			}
			want(t, "stored", d.stored(t), 0, 1)
		})
	}
}
