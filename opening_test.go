package dbscope_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// unopened makes the first statement of a unit fail to open its session, one time.
var unopened = map[string]func(f *drivertest.Fake) []dbscope.DBOption{
	"the pool cannot be opened": func(f *drivertest.Fake) []dbscope.DBOption {
		f.Inject("open", drivertest.Fault{Err: errStop})
		return nil
	},
	"no connection can be made": func(f *drivertest.Fake) []dbscope.DBOption {
		f.Inject("acquire", drivertest.Fault{Err: errStop})
		return nil
	},
	"BEGIN is refused": func(f *drivertest.Fake) []dbscope.DBOption {
		f.Inject("begin", drivertest.Fault{Err: errStop, Fate: driver.Intact})
		return nil
	},
	"BeforeSession fails": func(*drivertest.Fake) []dbscope.DBOption {
		failed := false
		return []dbscope.DBOption{dbscope.BeforeSession(func(context.Context) error {
			if failed {
				return nil
			}
			failed = true
			return errStop
		})}
	},
}

func onEachUnopened(t *testing.T, test func(t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx])) {
	for name, prepare := range unopened {
		t.Run(name, func(t *testing.T) {
			f := drivertest.NewFake()
			idleConns(t, f)
			test(t, f, f.DB(prepare(f)...))
		})
	}
}

func undoneBy(t *testing.T, err, cause error) {
	t.Helper()
	is(t, err, dbscope.ErrRolledBack)
	is(t, err, cause)
}

func TestAFirstStatementThatCannotOpenItsSessionUndoesTheUnitAlsoWhereItsErrorIsIgnored(t *testing.T) {
	onEachUnopened(t, func(t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
		other := f.DB()
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			is(t, drivertest.Exec(ctx, db, "a"), errStop)
			undoneBy(t, drivertest.Exec(ctx, db, "b"), errStop)
			tx, err := db.Session(ctx)
			ok(t, err)
			undoneBy(t, tx.Exec(ctx, "c"), errStop)
			_, err = tx.Begin(ctx)
			undoneBy(t, err, errStop)
			undoneBy(t, db.Atomic(ctx, func(context.Context) error { t.Error("called"); return nil }), errStop)
			return drivertest.Exec(ctx, other, "d")
		})
		undoneBy(t, err, errStop)
		equal(t, "rows", f.Rows())
	})
}

func TestAnEarlyRollbackMakesAUnitWholeWhoseSessionCouldNotBeOpened(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	for name, undo := range map[string]func(context.Context, DB) error{
		"Rollback": func(ctx context.Context, db DB) error { return db.Rollback(ctx) },
		"Release":  func(ctx context.Context, db DB) error { return db.Release(ctx) },
		"RollbackOpen": func(ctx context.Context, db DB) error {
			return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.RollbackOpen)
		},
		"the scope's": func(ctx context.Context, _ DB) error {
			scope, _ := dbscope.FromContext(ctx)
			return scope.Rollback(ctx)
		},
		"the handle's": func(ctx context.Context, db DB) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			return tx.Rollback(ctx)
		},
		"a failed Commit": func(ctx context.Context, db DB) error {
			undoneBy(t, db.Commit(ctx), errStop)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachUnopened(t, func(t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					is(t, drivertest.Exec(ctx, db, "a"), errStop)
					ok(t, undo(ctx, db))
					return drivertest.Exec(ctx, db, "b")
				}))
				equal(t, "rows", f.Rows(), "b")
			})
		})
	}
}

func TestABlockWhoseSessionCouldNotBeOpenedIsUndoneAloneAndTheUnitGoesOn(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	for name, block := range map[string]func(context.Context, DB, func(context.Context) error) error{
		"Atomic": func(ctx context.Context, db DB, fn func(context.Context) error) error { return db.Atomic(ctx, fn) },
		"Atomic in Atomic": func(ctx context.Context, db DB, fn func(context.Context) error) error {
			return db.Atomic(ctx, func(ctx context.Context) error {
				is(t, db.Atomic(ctx, fn), errStop)
				return errStop
			})
		},
		"a nested transaction": func(ctx context.Context, db DB, fn func(context.Context) error) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			nested, err := tx.Begin(ctx)
			ok(t, err)
			is(t, nested.Exec(ctx, "a"), errStop)
			undoneBy(t, nested.Exec(ctx, "b"), errStop)
			undoneBy(t, nested.Commit(ctx), errStop)
			nested, err = tx.Begin(ctx)
			undoneBy(t, err, errStop)
			_ = nested
			ok(t, tx.Rollback(ctx))
			return fn(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachUnopened(t, func(t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					err := block(ctx, db, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
					if name != "a nested transaction" {
						is(t, err, errStop)
					}
					return drivertest.Exec(ctx, db, "b")
				}))
				if rows := f.Rows(); rows[len(rows)-1] != "b" {
					t.Errorf("stored %v", rows)
				}
			})
		})
	}
}

// An Atomic block that ignores the error is not kept.
func TestABlockThatIgnoresThatItsSessionCouldNotBeOpenedIsNotKept(t *testing.T) {
	onEachUnopened(t, func(t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			undoneBy(t, db.Atomic(ctx, func(ctx context.Context) error {
				is(t, drivertest.Exec(ctx, db, "a"), errStop)
				undoneBy(t, drivertest.Exec(ctx, db, "b"), errStop)
				return nil
			}), errStop)
			return drivertest.Exec(ctx, db, "c")
		}))
		equal(t, "rows", f.Rows(), "c")
	})
}

func TestRetryTriesAgainWhatCouldNotBeginAlsoWhereTheErrorIsIgnored(t *testing.T) {
	for name, ignore := range map[string]bool{"returned": false, "ignored": true} {
		f, db := newFake(t)
		f.Inject("begin", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Intact})
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			err := drivertest.Exec(ctx, db, "a")
			if ignore {
				err = nil
			}
			_ = drivertest.Exec(ctx, db, "b")
			return err
		}, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond})))
		equal(t, name, f.Rows(), "a", "b")
	}
}

func TestAStatementThatIsCancelledWhileItOpensItsSessionUndoesTheUnit(t *testing.T) {
	f, db := newFake(t)
	entered := make(chan struct{})
	f.Inject("acquire", drivertest.Fault{Entered: entered, Until: make(chan struct{})})
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		inner, cancel := context.WithCancelCause(ctx)
		go func() {
			<-entered
			cancel(errStop)
		}()
		is(t, drivertest.Exec(inner, db, "a"), errStop)
		undoneBy(t, drivertest.Exec(ctx, db, "b"), errStop)
		return nil
	})
	undoneBy(t, err, errStop)
	equal(t, "rows", f.Rows())
}

// As in a transaction that is open: nothing was asked of the database.
func TestAStatementThatIsRefusedBeforeItAsksForASessionUndoesNothing(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		for _, row := range []string{"a", "b"} {
			inner, cancel := context.WithCancelCause(ctx)
			cancel(errStop)
			is(t, drivertest.Exec(inner, db, "refused"), errStop)
			exec(ctx, t, db, row)
		}
		return nil
	}))
	equal(t, "rows", f.Rows(), "a", "b")
}

func TestUnscopedStatementsAreEachOnTheirOwnAlsoWhereOneGetsNoConnection(t *testing.T) {
	f, db := newFake(t, dbscope.AllowUnscoped())
	f.Inject("acquire", drivertest.Fault{Err: errStop})
	is(t, drivertest.Exec(t.Context(), db, "a"), errStop)
	exec(t.Context(), t, db, "b")
	f.Inject("begin", drivertest.Fault{Err: errStop, Fate: driver.Intact})
	_, err := drivertest.Begin(t.Context(), db)
	if !errors.Is(err, errStop) {
		t.Fatal(err)
	}
	tx, err := drivertest.Begin(t.Context(), db)
	ok(t, err)
	ok(t, tx.Exec(t.Context(), "c"))
	ok(t, tx.Commit(t.Context()))
	equal(t, "rows", f.Rows(), "b", "c")
}
