package sqlscope_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/dbscope/dbscope"
)

func TestAStatementIsForTheMethodsItWasPreparedBeside(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		db, is := d.scoped.(overSQL)
		if !is {
			t.Skip("its handle is pgx's")
		}
		ofDB, err := db.PrepareContext(t.Context(), "SELECT count(*) FROM t")
		ok(t, err)
		ofSQL, err := db.SQL().PrepareContext(t.Context(), "SELECT count(*) FROM t")
		ok(t, err)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			handle, err := db.Session(ctx)
			ok(t, err)
			nested, err := db.SQL().BeginTx(ctx, nil)
			ok(t, err)
			count := func(of *sql.Stmt) error { return of.QueryRowContext(ctx).Scan(new(int)) }
			ok(t, count(ofSQL))
			ok(t, count(nested.StmtContext(ctx, ofSQL)))
			if count(nested.StmtContext(ctx, ofDB)) == nil || count(handle.StmtContext(ctx, ofSQL)) == nil {
				t.Error("database/sql takes statements of another *sql.DB")
			}
			ok(t, nested.Commit())
			ok(t, count(ofDB))
			ok(t, count(handle.StmtContext(ctx, ofDB)))
			return nil
		}))
		ok(t, ofDB.Close())
		ok(t, ofSQL.Close())
	})
}
