package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/scopetest"
)

// Closing works on a transaction that has failed, too, and is no way back.
func TestAStatementThatIsClosedDoesNotHideThatItsTransactionHasFailed(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres {
			t.Skip("a failed statement fails no transaction there")
		}
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := d.SQL().BeginTx(ctx, nil)
			ok(t, err)
			stmt, err := tx.PrepareContext(ctx, "INSERT INTO t (id) VALUES ($1)")
			ok(t, err)
			_, err = stmt.ExecContext(ctx, 1)
			ok(t, err)
			_, failed := stmt.ExecContext(ctx, 1)
			if failed == nil {
				t.Error("a duplicate was stored")
			}
			ok(t, stmt.Close())
			if err := tx.Commit(); !errors.Is(err, dbscope.ErrRolledBack) || !errors.Is(err, failed) {
				t.Errorf("the error is %v", err)
			}
			return nil
		}), dbscope.ErrRolledBack)
		if got := d.stored(t); got != nil {
			t.Errorf("stored %v", got)
		}
	})
}

func TestAnErrorOfClosingAStatementIsToldByCloseOrWhatFollows(t *testing.T) {
	failed := errors.New("closing has failed")
	prepare := func(ctx context.Context, t *testing.T, in preparer) *sql.Stmt {
		stmt, err := in.PrepareContext(ctx, storeOne)
		ok(t, err)
		return stmt
	}
	for name, unit := range map[string]func(ctx context.Context, t *testing.T, d *opened) error{
		"by Close": func(ctx context.Context, t *testing.T, d *opened) error {
			tx, err := d.handle(ctx)
			ok(t, err)
			return prepare(ctx, t, tx.(preparer)).Close()
		},
		"by Close in a block": func(ctx context.Context, t *testing.T, d *opened) error {
			tx, err := d.SQL().BeginTx(ctx, nil)
			ok(t, err)
			return errors.Join(prepare(ctx, t, tx).Close(), tx.Rollback())
		},
		"by the next statement": func(ctx context.Context, t *testing.T, d *opened) error {
			c, err := d.SQL().Conn(ctx)
			ok(t, err)
			ok(t, prepare(ctx, t, c).Close())
			ok(t, c.Close())
			return insert(ctx, d, 2)
		},
		"by the commit": func(ctx context.Context, t *testing.T, d *opened) error {
			c, err := d.SQL().Conn(ctx)
			ok(t, err)
			ok(t, prepare(ctx, t, c).Close())
			return c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
				f.at("CLOSE "+storeOne, nil, failed)
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					return unit(ctx, t, d)
				}), failed)
				if n := f.count("CLOSE " + storeOne); n != 1 {
					t.Errorf("it was closed %d times", n)
				}
				if got := d.stored(t); got != nil {
					t.Errorf("stored %v", got)
				}
			})
		})
	}
}

func TestACopyInATestIsStoredOrTold(t *testing.T) {
	for _, way := range []string{"the handle", "a transaction of SQL()", "a connection of SQL()", "a block", "a Group"} {
		t.Run(way, func(t *testing.T) {
			d := open(t, databases["PostgreSQL by pq"])
			unit := func(ctx context.Context, ids ...int) error {
				return dbscope.Run(ctx, func(ctx context.Context) error {
					return copying[way](ctx, d, func(ctx context.Context, in preparer) error {
						stmt, err := rows(ctx, in, ids...)
						if err == nil {
							_ = stmt.Close()
						}
						return err
					})
				})
			}
			db := d.scoped.(overSQL)
			ctx := scopetest.Rollback(t, db)
			ok(t, unit(ctx, 1, 2))
			if err := unit(ctx, 3, 4, 3); !duplicate(err) || !errors.Is(err, dbscope.ErrRolledBack) {
				t.Errorf("the error is %v", err)
			}
			if n := scopetest.Count(ctx, db, "t"); n != 2 {
				t.Errorf("%d rows are stored", n)
			}
		})
	}
}
