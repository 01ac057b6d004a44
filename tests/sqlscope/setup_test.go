package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

func isClosed(t *testing.T, handle *sql.DB) {
	t.Helper()
	if err := handle.PingContext(t.Context()); err == nil || err.Error() != "sql: database is closed" {
		t.Errorf("it is not closed: %v", err)
	}
}

func TestALibraryMayTalkToTheDatabaseOutsideOfUnitsUntilItIsSetUp(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ctx := t.Context()
		var kept *sql.DB
		var prepared *sql.Stmt
		ok(t, d.SetUp(func(handle *sql.DB) error {
			kept = handle
			ok(t, insert(ctx, handle, 1))
			want(t, "stored at once", d.stored(t), 1)
			tx, err := handle.BeginTx(ctx, nil)
			ok(t, err)
			ok(t, insert(ctx, tx, 2))
			ok(t, tx.Rollback())
			conn, err := handle.Conn(ctx)
			ok(t, err)
			ok(t, insert(ctx, conn, 3))
			ok(t, conn.Close())
			prepared, err = handle.PrepareContext(ctx, "INSERT INTO t (id) VALUES ($1)")
			ok(t, err)
			_, err = prepared.ExecContext(ctx, 4)
			ok(t, err)
			for _, others := range []execer{d, d.SQL()} { // a service may run already
				is(t, insert(ctx, others, 5), dbscope.ErrNoScope)
			}
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				return errors.Join(insert(ctx, handle, 6), errStop)
			}), errStop)
			return nil
		}))
		is(t, insert(ctx, kept, 7), dbscope.ErrNoScope)
		_, err := prepared.ExecContext(ctx, 7)
		is(t, err, dbscope.ErrNoScope)
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
			_, err := prepared.ExecContext(ctx, 8)
			return errors.Join(err, insert(ctx, kept, 9))
		}))
		want(t, "stored", d.stored(t), 1, 3, 4, 8, 9)
		want(t, "connections in use", []int{d.inUse(t)}, 0)
		ok(t, prepared.Close())
		if kept == d.SQL() {
			t.Error("the handle is not its own")
		}
	})
}

func TestAConnectionThatALibraryKeepsFromItsSetUpIsStrictAfterwards(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ctx := t.Context()
		var kept *sql.Conn
		ok(t, d.SetUp(func(handle *sql.DB) (err error) {
			if kept, err = handle.Conn(ctx); err != nil {
				return err
			}
			return insert(ctx, kept, 1)
		}))
		is(t, insert(ctx, kept, 2), dbscope.ErrNoScope)
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return insert(ctx, kept, 3) }))
		ok(t, kept.Close())
		want(t, "stored", d.stored(t), 1, 3)
		want(t, "connections in use", []int{d.inUse(t)}, 0)
	})
}

func TestALibrarysHandleIsClosedWhereItsSetUpFails(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var failed, panicked, closed *sql.DB
		is(t, d.SetUp(func(handle *sql.DB) error { failed = handle; return errStop }), errStop)
		isClosed(t, failed)
		func() {
			defer func() { _ = recover() }()
			_ = d.SetUp(func(handle *sql.DB) error { panicked = handle; panic("on purpose") })
		}()
		isClosed(t, panicked)
		ok(t, d.SetUp(func(handle *sql.DB) error { closed = handle; return handle.Close() }))
		isClosed(t, closed)
		ok(t, d.SQL().PingContext(t.Context()))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d.SQL(), 1) }))
		want(t, "stored", d.stored(t), 1)
	})
}

func TestALibrarysHandleIsClosedWithTheDB(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var kept *sql.DB
		ok(t, d.SetUp(func(handle *sql.DB) error { kept = handle; return nil }, sqlscope.JoinBegin()))
		ok(t, d.Close())
		isClosed(t, kept)
		ok(t, d.SetUp(func(handle *sql.DB) error { isClosed(t, handle); return nil }))
	})
}

func TestALibrarysHandleTakesTheOptionsOfSQL(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		is(t, d.SetUp(func(handle *sql.DB) error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				tx, err := handle.BeginTx(ctx, nil)
				ok(t, err)
				ok(t, tx.Rollback()) // which dooms the unit it has joined
				return nil
			})
		}, sqlscope.JoinBegin()), dbscope.ErrRolledBack)
		want(t, "stored", d.stored(t))
	})
}

// Documented: with settings only transactions are let through outside of units.
func TestWithSettingsALibraryIsSetUpByTransactions(t *testing.T) {
	for name, one := range databases {
		if !one.postgres {
			continue
		}
		t.Run(name, func(t *testing.T) {
			asked := 0
			d := open(t, one, dbscope.Settings(func(context.Context) ([]dbscope.Setting, error) {
				asked++
				return []dbscope.Setting{{Name: "app.tenant", Value: "7"}}, nil
			}))
			ok(t, d.SetUp(func(handle *sql.DB) error {
				if insert(t.Context(), handle, 1) == nil || asked != 0 {
					t.Error("a statement outside of a transaction was let through")
				}
				tx, err := handle.BeginTx(t.Context(), nil)
				ok(t, err)
				var tenant string
				ok(t, tx.QueryRowContext(t.Context(), "SELECT current_setting('app.tenant')").Scan(&tenant))
				if tenant != "7" || asked != 1 {
					t.Errorf("tenant %q, asked %d times", tenant, asked)
				}
				return tx.Commit()
			}))
		})
	}
}
