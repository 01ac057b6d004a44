package dbscope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// behind makes the commit of the open transaction store a row, which the fake does
// for the ledger.
func behind(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx], id string) {
	t.Helper()
	session, err := dbscope.Gate(db).Session(ctx)
	ok(t, err)
	ok(t, session.CommitBehind(func(ctx context.Context, c driver.Conn) error { return insert(ctx, c, id) }))
}

func insert(ctx context.Context, c driver.Conn, id string) error {
	_, err := c.FirstRow(ctx, "INSERT INTO dbscope_ledger (id, created_at) VALUES ('"+id+"', 1)")
	return err
}

func TestAStatementGoesWithTheCommitWhoeverAsksForIt(t *testing.T) {
	for name, commit := range map[string]func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error{
		"the end":         func(context.Context, *dbscope.DB[*drivertest.Tx]) error { return nil },
		"an early commit": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error { return db.Commit(ctx) },
		"the scope's": func(ctx context.Context, _ *dbscope.DB[*drivertest.Tx]) error {
			scope, _ := dbscope.FromContext(ctx)
			return scope.Commit(ctx)
		},
		"the handle's": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			tx, err := db.Session(ctx)
			return errors.Join(err, tx.Commit(ctx))
		},
		"a block's": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
			return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.ContinueOpen)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t)
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "one")
				behind(ctx, t, db, "a")
				ok(t, db.BeforeCommit(ctx, func(ctx context.Context) error {
					behind(ctx, t, db, "b")
					return drivertest.Exec(ctx, db, "two")
				}))
				return commit(ctx, db)
			}))
			equal(t, "rows", f.Rows(), "one", "two", "ledger a 1", "ledger b 1")
		})
	}
}

func TestTheStatementOfACommitComesAfterThoseBehindIt(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "one")
		behind(ctx, t, db, "a")
		session, err := dbscope.Gate(db).Session(ctx)
		ok(t, err)
		return session.CommitWith(ctx, func(ctx context.Context, c driver.Conn) error { return insert(ctx, c, "b") })
	}))
	equal(t, "rows", f.Rows(), "one", "ledger a 1", "ledger b 1")
}

func TestARollbackForgetsWhatWasToGoWithTheCommit(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "lost")
		behind(ctx, t, db, "lost")
		ok(t, db.Rollback(ctx))
		exec(ctx, t, db, "one")
		return nil
	}))
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "lost")
		behind(ctx, t, db, "lost")
		return errStop
	}), errStop)
	equal(t, "rows", f.Rows(), "one")
}

func TestNothingIsCommittedWhereAStatementBehindItFails(t *testing.T) {
	for _, fate := range []driver.Fate{driver.Intact, driver.Aborted, driver.Undone, driver.Lost} {
		for _, after := range []string{"", "fine"} { // the failed one is the last, or not
			f, db := newFake(t)
			f.Inject("row", drivertest.Fault{Err: errStop, Fate: fate})
			undone := false
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "lost")
				behind(ctx, t, db, "fails")
				if after != "" {
					behind(ctx, t, db, after)
				}
				return dbscope.AfterRollback(ctx, func(context.Context) error { undone = true; return nil })
			})
			is(t, err, dbscope.ErrRolledBack)
			is(t, err, errStop)
			equal(t, "rows", f.Rows())
			if !undone {
				t.Error("the hook of AfterRollback did not run")
			}
		}
	}
}

func TestAStatementThatPanicsInACommitLeavesTheUnitOver(t *testing.T) {
	_, db := newFake(t)
	func() {
		defer func() {
			if p := recover(); p != "stop" {
				t.Errorf("the panic is %v", p)
			}
		}()
		_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "lost")
			session, err := dbscope.Gate(db).Session(ctx)
			ok(t, err)
			return session.CommitBehind(func(context.Context, driver.Conn) error { panic("stop") })
		})
	}()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "one") }))
}

func TestWhatHasNoCommitOfItsOwnTakesNoStatementBehindIt(t *testing.T) {
	_, db := newFake(t)
	nothing := func(context.Context, driver.Conn) error { return nil }
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		session, err := dbscope.Gate(db).Session(ctx)
		ok(t, err)
		if err := session.CommitBehind(nothing); err == nil {
			t.Error("a session without a transaction took it")
		}
		exec(ctx, t, db, "one")
		block, err := session.Begin(ctx, noOptions)
		ok(t, err)
		is(t, block.CommitBehind(nothing), dbscope.ErrOpenTransaction)
		ok(t, block.Commit(ctx))
		ok(t, db.Commit(ctx))
		if err := session.CommitBehind(nothing); err == nil {
			t.Error("a session that is over took it")
		}
		return nil
	}))
}

var noOptions = driver.TxOptions{}.TxOptions
