package dbscope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func read(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
	t.Helper()
	tx, err := db.Session(ctx)
	ok(t, err)
	rows, err := tx.Query(ctx, "what")
	ok(t, err)
	ok(t, rows.Close())
}

func TestAReadOnlyUnitWhoseCommitWasNotAnsweredIsRolledBackAndNotUnknown(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	for name, unit := range map[string]func(ctx context.Context, db DB) error{
		"a unit": func(ctx context.Context, db DB) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { read(ctx, t, db); return nil }, dbscope.ReadOnly())
		},
		"an early commit": func(ctx context.Context, db DB) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { read(ctx, t, db); return db.Commit(ctx) }, dbscope.ReadOnly())
		},
		"an Atomic block": func(ctx context.Context, db DB) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				return db.Atomic(ctx, func(ctx context.Context) error { read(ctx, t, db); return nil }, dbscope.ReadOnly())
			})
		},
		"a Group": func(ctx context.Context, db DB) error {
			g := dbscope.NewGroup(ctx, dbscope.ReadOnly())
			g.CommitTogether()
			g.Go(func(ctx context.Context) error { read(ctx, t, db); return nil })
			return g.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			for fault, c := range map[string]drivertest.Fault{
				"the answer is lost":                 {Err: errStop, Outcome: driver.Unknown},
				"it is done, but the answer is lost": {Err: errStop, Outcome: driver.Unknown, Done: true},
			} {
				f, db := newFake(t, dbscope.SettleByLedger()) // which does nothing for what is read-only
				f.Inject("commit", c)
				err := unit(t.Context(), db)
				undoneBy(t, err, errStop)
				if errors.Is(err, dbscope.ErrCommitUnknown) {
					t.Errorf("%s: got %v", fault, err)
				}
				var failed *dbscope.CommitError
				if !errors.As(err, &failed) || failed.Outcomes[0].State != driver.RolledBack {
					t.Errorf("%s: got %v", fault, err)
				}
				equal(t, fault, f.Log(), "open", "acquire", "begin read-only", "query what", "rows close", "commit", "discard")
			}
		})
	}
}

func TestAReadOnlyUnitWhoseCommitWasNotAnsweredIsRunAgainByRetry(t *testing.T) {
	f, db := newFake(t)
	var j journal
	f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: driver.Unknown})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		j.watch(ctx, t, "scope")
		j.watch(ctx, t, "db", db)
		read(ctx, t, db)
		return nil
	}, dbscope.ReadOnly(), dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond})))
	equal(t, "hooks", j.take(), "scope before", "db before", "scope undone", "db undone",
		"scope before", "db before", "scope committed", "db committed")
}

// One that a statement has ended may have stored something after that.
func TestAReadOnlyUnitThatAStatementHasEndedIsUnknown(t *testing.T) {
	f, db := newFake(t)
	f.Inject("commit", drivertest.Fault{Err: fmt.Errorf("%w: %w", errStop, driver.ErrEnded), Outcome: driver.Unknown})
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { read(ctx, t, db); return nil },
		dbscope.ReadOnly()), dbscope.ErrCommitUnknown)
}
