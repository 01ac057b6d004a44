package dbscope_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// withoutLedger returns the rows that are not the ledger's.
func withoutLedger(f *drivertest.Fake) []string {
	return slices.DeleteFunc(f.Rows(), func(row string) bool { return strings.HasPrefix(row, "ledger ") })
}

func TestTheLedgerSettlesACommitWhoseAnswerIsLost(t *testing.T) {
	for stored, rows := range map[bool][]string{true: {"row"}, false: nil} {
		f, db := newFake(t, dbscope.SettleByLedger())
		f.LimitConns(1) // the transaction's connection is given back first
		f.Inject("commit", drivertest.Fault{Err: errBroken, Outcome: driver.Unknown, Done: stored})
		var after []string
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, dbscope.AfterCommit(ctx, func(context.Context) error { after = append(after, "committed"); return nil }))
			ok(t, dbscope.AfterRollback(ctx, func(context.Context) error { after = append(after, "rolled back"); return nil }))
			return drivertest.Exec(ctx, db, "row")
		})
		if stored {
			ok(t, err)
			equal(t, "hooks", after, "committed")
		} else {
			is(t, err, dbscope.ErrRolledBack)
			if errors.Is(err, dbscope.ErrCommitUnknown) {
				t.Errorf("it is still unknown: %v", err)
			}
			equal(t, "hooks", after, "rolled back")
		}
		equal(t, "stored", withoutLedger(f), rows...)
	}
}

func TestASettledRollbackIsTriedAgainAndAnUnknownOneIsNot(t *testing.T) {
	for _, settled := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f, db := newFake(t, dbscope.SettleByLedger())
			f.Inject("commit", drivertest.Fault{Err: errors.Join(errBroken, drivertest.ErrTransient), Outcome: driver.Unknown})
			if !settled {
				f.Inject("row", drivertest.Fault{}) // the transaction's own
				for range 2000 {
					f.Inject("row", drivertest.Fault{Err: errBroken})
				}
			}
			attempts := 0
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				attempts++
				return drivertest.Exec(ctx, db, "row")
			}, dbscope.Retry(dbscope.RetryPolicy{}), dbscope.CommitTimeout(10*time.Second))
			if settled {
				ok(t, err)
				equal(t, "stored", withoutLedger(f), "row")
				return
			}
			is(t, err, dbscope.ErrCommitUnknown)
			if attempts != 1 {
				t.Errorf("%d attempts", attempts)
			}
		})
	}
}

func TestALedgerThatCannotBeWrittenPreventsTheCommit(t *testing.T) {
	f, db := newFake(t, dbscope.SettleByLedger())
	f.Inject("row", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
	err := dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
	is(t, err, dbscope.ErrRolledBack)
	is(t, err, errBroken)
	if !strings.Contains(err.Error(), "dbscope.LedgerTable") {
		t.Errorf("the error does not tell what to do: %v", err)
	}
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec row", "row INSERT", "rollback", "release")
}

func TestNoDatabaseIsCommittedWhereTheLedgerOfOneCannotBeWritten(t *testing.T) {
	for _, outer := range []string{"Run", "CommitTogether"} {
		f := drivertest.NewFake()
		idleConns(t, f)
		one, two := f.DB(dbscope.Name("one"), dbscope.SettleByLedger()), f.DB(dbscope.Name("two"), dbscope.SettleByLedger())
		f.Inject("row", drivertest.Fault{})
		f.Inject("row", drivertest.Fault{Err: errStop})
		var err error
		if outer == "Run" {
			err = dbscope.Run(t.Context(), func(ctx context.Context) error {
				return errors.Join(drivertest.Exec(ctx, one, "a"), drivertest.Exec(ctx, two, "b"))
			})
		} else {
			g := together(t.Context())
			g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, one, "a") })
			g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, two, "b") })
			err = g.Wait()
		}
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, errStop)
		if msg := err.Error(); !strings.Contains(msg, "one: rolled back; two: rolled back") || slices.Contains(f.Log(), "commit") {
			t.Errorf("%s: the error is %q, the calls were %v", outer, msg, f.Log())
		}
	}
}

func TestPurgingTheLedgerInAUnitThatHoldsTheLastConnectionEndsAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t, dbscope.SettleByLedger())
		f.LimitConns(1)
		start := time.Now()
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			done := make(chan error)
			go func() { done <- db.PurgeLedger(ctx, time.Hour) }()
			err := <-done
			is(t, err, context.DeadlineExceeded)
			if !strings.Contains(err.Error(), "holds one of the same pool: make the pool larger") {
				t.Errorf("the message is %q", err)
			}
			return nil
		}))
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestOnlyTransactionsThatMayWriteAreInTheLedger(t *testing.T) {
	f, db := newFake(t, dbscope.SettleByLedger())
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "read") }, dbscope.ReadOnly()))
	equal(t, "stored", f.Rows(), "read")
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "written") }))
	if got := f.Rows(); len(got) != 3 {
		t.Errorf("stored %v", got)
	}
	ok(t, db.PurgeLedger(t.Context(), time.Hour))
	equal(t, "stored", f.Rows(), "read", "written")
}

func TestALaterTransactionOfAScopeIsSettledToo(t *testing.T) {
	f, db := newFake(t, dbscope.SettleByLedger())
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "first")
		ok(t, db.Commit(ctx))
		exec(ctx, t, db, "second") // on the same connection
		f.Inject("commit", drivertest.Fault{Err: errBroken, Outcome: driver.Unknown, Done: true})
		return nil
	}))
	equal(t, "stored", withoutLedger(f), "first", "second")
}
