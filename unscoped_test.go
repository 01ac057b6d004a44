package dbscope_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// outside returns a session outside of units that keeps its connection.
func outside(t *testing.T, db *dbscope.DB[*drivertest.Tx]) driver.Unscoped {
	t.Helper()
	s, err := dbscope.Gate(db).Session(t.Context())
	ok(t, err)
	kept := s.(driver.Unscoped)
	for range 2 {
		if !kept.Keep() {
			t.Fatal("it keeps no connection")
		}
	}
	return kept
}

func ask(ctx context.Context, s driver.Session, statement string) error {
	conn, err := s.Enter(ctx)
	if err != nil {
		return err
	}
	_, err = conn.FirstRow(ctx, statement)
	return s.Exit(ctx, err)
}

func TestASessionOutsideOfUnitsKeepsItsConnectionUntilItGivesItBack(t *testing.T) {
	f, db := newFake(t, dbscope.AllowUnscoped())
	s := outside(t, db)
	ok(t, ask(t.Context(), s, "a"))
	ok(t, ask(t.Context(), s, "b"))
	for _, end := range []func(driver.Session, context.Context) error{driver.Session.Commit, driver.Session.Rollback} {
		tx, err := s.Begin(t.Context(), sql.TxOptions{})
		ok(t, err)
		is(t, ask(t.Context(), s, "beside the transaction"), dbscope.ErrSessionBusy)
		ok(t, ask(t.Context(), tx, "c"))
		ok(t, end(tx, t.Context()))
		is(t, ask(t.Context(), tx, "after the transaction"), dbscope.ErrScopeEnded)
		ok(t, ask(t.Context(), s, "d"))
	}
	s.GiveBack()
	s.GiveBack()
	if ask(t.Context(), s, "over") == nil {
		t.Error("it takes a connection again")
	}
	equal(t, "calls", f.Log(), "open", "acquire", "row a", "row b", "begin", "row c", "commit", "row d",
		"begin", "row c", "rollback", "row d", "release")
}

func TestASessionOutsideOfUnitsThatWasNotOpenedKeepsNothing(t *testing.T) {
	for step, begin := range map[string]bool{"acquire": true, "begin": true, "first": false} {
		t.Run(step, func(t *testing.T) {
			f, db := newFake(t, dbscope.AllowUnscoped())
			s := outside(t, db)
			if begin {
				f.Inject(step, drivertest.Fault{Err: errStop, Fate: driver.Intact})
				_, err := s.Begin(t.Context(), sql.TxOptions{})
				is(t, err, errStop)
			}
			s.GiveBack()
			if n := f.Open(); n != 0 {
				t.Errorf("%d connections are open", n)
			}
		})
	}
}

func TestALostConnectionOutsideOfUnitsIsNotReplaced(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, f *drivertest.Fake, s driver.Session){
		"by a statement": func(t *testing.T, f *drivertest.Fake, s driver.Session) {
			f.Inject("row", drivertest.Fault{Err: errStop, Fate: driver.Lost})
			is(t, ask(t.Context(), s, "b"), errStop)
		},
		"by a statement in a transaction": func(t *testing.T, f *drivertest.Fake, s driver.Session) {
			tx, err := s.Begin(t.Context(), sql.TxOptions{})
			ok(t, err)
			f.Inject("row", drivertest.Fault{Err: errStop, Fate: driver.Lost})
			is(t, ask(t.Context(), tx, "b"), errStop)
			is(t, tx.Commit(t.Context()), dbscope.ErrRolledBack)
		},
		"by BEGIN": func(t *testing.T, f *drivertest.Fake, s driver.Session) {
			f.Inject("begin", drivertest.Fault{Err: errStop, Fate: driver.Lost})
			_, err := s.Begin(t.Context(), sql.TxOptions{})
			is(t, err, errStop)
		},
		"by COMMIT": func(t *testing.T, f *drivertest.Fake, s driver.Session) {
			tx, err := s.Begin(t.Context(), sql.TxOptions{})
			ok(t, err)
			f.Inject("commit", drivertest.Fault{Err: errStop, Fate: driver.Lost})
			is(t, tx.Commit(t.Context()), dbscope.ErrCommitUnknown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t, dbscope.AllowUnscoped())
			s := outside(t, db)
			ok(t, ask(t.Context(), s, "a"))
			lose(t, f, s)
			for range 2 {
				if err := ask(t.Context(), s, "c"); err == nil {
					t.Error("it has another connection")
				}
			}
			s.GiveBack()
			acquired := 0
			for _, call := range f.Log() {
				if call == "acquire" {
					acquired++
				}
			}
			if acquired != 1 || f.Open() != 0 {
				t.Errorf("%d connections were taken, %d are open", acquired, f.Open())
			}
		})
	}
}

func TestOnlyWhatNeedsNothingElseOfItsConnectionIsBare(t *testing.T) {
	for want, opts := range map[bool][]dbscope.DBOption{true: nil, false: {dbscope.ResetConnections()}} {
		_, db := newFake(t, append(opts, dbscope.AllowUnscoped())...)
		if s := outside(t, db); s.Bare() != want {
			t.Errorf("with %d options it is %v", len(opts), s.Bare())
		}
	}
}
