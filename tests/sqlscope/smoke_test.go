package sqlscope_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestSmoke(t *testing.T) {
	pg := pgtest.Start(t)
	for _, db := range []*sqlscope.DB{
		sqlscope.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")),
		sqlscope.Open("pgx", pg.CreateDatabase(t)),
	} {
		defer db.Close()
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			if _, err := db.ExecContext(ctx, "create table t (id int primary key)"); err != nil {
				return err
			}
			tx, err := db.Session(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "insert into t values ($1)", 1); err != nil {
				return err
			}
			if _, err := db.SQL().ExecContext(ctx, "insert into t values ($1)", 2); err != nil {
				return err
			}
			ntx, err := db.SQL().BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := ntx.ExecContext(ctx, "insert into t values ($1)", 2); err == nil {
				return fmt.Errorf("want dup")
			}
			if err := ntx.Rollback(); err != nil {
				return err
			}
			rows, err := db.QueryContext(ctx, "select id from t order by 1")
			if err != nil {
				return err
			}
			_, err = db.ExecContext(ctx, "insert into t values ($1)", 3)
			fmt.Println("busy:", err)
			for rows.Next() {
				var i int
				rows.Scan(&i)
				fmt.Println(i)
			}
			return rows.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		err = dbscope.Run(t.Context(), func(ctx context.Context) error {
			var n int
			_, err := db.ExecContext(ctx, "insert into t values ($1)", 1)
			fmt.Println(err)
			_, err = db.ExecContext(ctx, "insert into t values ($1)", 9)
			fmt.Println(err)
			_, err = db.ExecContext(ctx, "commit")
			fmt.Println(err)
			fmt.Println(db.QueryRowContext(ctx, "select count(*) from t").Scan(&n), n)
			return nil
		})
		fmt.Println(err)
	}
}
