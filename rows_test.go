package dbscope_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestRowsThatTheEndOfTheirBlockHasClosedDoNotReadOtherRows(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		tx, err := db.Session(ctx)
		ok(t, err)
		block, err := tx.Begin(ctx)
		ok(t, err)
		left, err := block.Query(ctx, "left open")
		ok(t, err)
		ok(t, block.Commit(ctx)) // closes them
		rows, err := tx.Query(ctx, "others")
		ok(t, err)
		_, err = left.Next()
		is(t, err, sql.ErrTxDone)
		is(t, left.Close(), sql.ErrTxDone)
		row, err := rows.Next()
		ok(t, err)
		equal(t, "row", []string{row}, "a")
		is(t, tx.Exec(ctx, "b"), dbscope.ErrSessionBusy)
		return rows.Close()
	}))
	equal(t, "rows", f.Rows(), "a")
}

func TestRowsLeftOpenDoNotHoldAnEndBeyondItsTime(t *testing.T) {
	for name, end := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx]) error{
		"of the scope": func(context.Context, *dbscope.DB[*drivertest.Tx]) error { return nil },
		"with hooks": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			return db.BeforeCommit(ctx, func(context.Context) error { return errors.New("it must not run") })
		},
		"by Commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error { return db.Commit(ctx) },
		"by Rollback": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			return errors.Join(errStop, db.Rollback(ctx))
		},
		"by Release": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			return errors.Join(errStop, db.Release(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, db := newFake(t)
				f.Inject("rows close", drivertest.Fault{Until: make(chan struct{}), Fate: driver.Lost})
				start := time.Now()
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					exec(ctx, t, db, "a")
					tx, err := db.Session(ctx)
					ok(t, err)
					_, err = tx.Query(ctx, "left open")
					ok(t, err)
					return end(ctx, db)
				}, dbscope.CommitTimeout(time.Second))
				if !errors.Is(err, errStop) {
					is(t, err, dbscope.ErrRolledBack)
					is(t, err, context.DeadlineExceeded)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("it took %v", took)
				}
				equal(t, "rows", f.Rows())
				if log := f.Log(); log[len(log)-1] != "discard" {
					t.Errorf("the connection was not lost: %v", log)
				}
			})
		})
	}
}

// The rows of a statement that was running at the end are closed by it.
func TestRowsOfADesertedStatementAreClosedInTheTimeOfAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t)
		entered, until := make(chan struct{}), make(chan struct{})
		f.Inject("query", drivertest.Fault{Entered: entered, Until: until})
		f.Inject("rows close", drivertest.Fault{Until: make(chan struct{}), Fate: driver.Lost})
		ctx, scope := dbscope.Begin(t.Context(), dbscope.CommitTimeout(time.Second))
		tx, err := db.Session(ctx)
		ok(t, err)
		queried := make(chan error)
		go func() {
			_, err := tx.Query(ctx, "left open")
			queried <- err
		}()
		<-entered
		ok(t, scope.End(ctx))
		close(until)
		ok(t, <-queried)
		equal(t, "calls", f.Log()[3:], "query left open", "rows close", "discard")
	})
}
