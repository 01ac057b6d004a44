package dbscope_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestAConnectionIsResetOnceAsItLeavesItsUnit(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	store := func(db DB) func(context.Context) error {
		return func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }
	}
	for name, test := range map[string]struct {
		do   func(ctx context.Context, db DB) error
		want []string
	}{
		"a unit that commits": {
			func(ctx context.Context, db DB) error { return dbscope.Run(ctx, store(db)) },
			[]string{"acquire", "begin", "exec a", "commit", "reset", "release"},
		},
		"one that fails": {
			func(ctx context.Context, db DB) error {
				err := dbscope.Run(ctx, func(ctx context.Context) error { return errors.Join(store(db)(ctx), errStop) })
				if errors.Is(err, errStop) {
					return nil
				}
				return err
			},
			[]string{"acquire", "begin", "exec a", "rollback", "reset", "release"},
		},
		"one that panics": {
			func(ctx context.Context, db DB) error {
				defer func() { _ = recover() }()
				return dbscope.Run(ctx, func(ctx context.Context) error { _ = store(db)(ctx); panic("stop") })
			},
			[]string{"acquire", "begin", "exec a", "rollback", "reset", "release"},
		},
		"one that commits early": {
			func(ctx context.Context, db DB) error {
				return dbscope.Run(ctx, func(ctx context.Context) error {
					return errors.Join(store(db)(ctx), db.Commit(ctx), store(db)(ctx))
				})
			},
			[]string{"acquire", "begin", "exec a", "commit", "begin", "exec a", "commit", "reset", "release"},
		},
		"one that does nothing after its early commit": {
			func(ctx context.Context, db DB) error {
				return dbscope.Run(ctx, func(ctx context.Context) error { return errors.Join(store(db)(ctx), db.Commit(ctx)) })
			},
			[]string{"acquire", "begin", "exec a", "commit", "reset", "release"},
		},
		"one that gives it back early": {
			func(ctx context.Context, db DB) error {
				return dbscope.Run(ctx, func(ctx context.Context) error {
					return errors.Join(store(db)(ctx), db.Commit(ctx), db.Release(ctx), store(db)(ctx))
				})
			},
			[]string{
				"acquire", "begin", "exec a", "commit", "reset", "release",
				"acquire", "begin", "exec a", "commit", "reset", "release",
			},
		},
		"one with an Atomic block": {
			func(ctx context.Context, db DB) error {
				return dbscope.Run(ctx, func(ctx context.Context) error {
					return errors.Join(db.Atomic(ctx, store(db)), db.Atomic(ctx, store(db)))
				})
			},
			[]string{"acquire", "begin", "exec a", "commit", "begin", "exec a", "commit", "reset", "release"},
		},
		"a function of a Group": {
			func(ctx context.Context, db DB) error {
				g := dbscope.NewGroup(ctx)
				g.Go(store(db))
				return g.Wait()
			},
			[]string{"acquire", "begin", "exec a", "commit", "reset", "release"},
		},
		"one whose hook needs a connection": {
			func(ctx context.Context, db DB) error {
				return dbscope.Run(ctx, func(ctx context.Context) error {
					return errors.Join(store(db)(ctx), dbscope.AfterCommit(ctx, store(db)))
				})
			},
			[]string{
				"acquire", "begin", "exec a", "commit", "reset", "release",
				"acquire", "begin", "exec a", "commit", "reset", "release",
			},
		},
		"a statement without a scope": {
			func(ctx context.Context, db DB) error { return store(db)(ctx) },
			[]string{"acquire", "exec a", "reset", "release"},
		},
		"a unit that used nothing": {
			func(ctx context.Context, db DB) error {
				return dbscope.Run(ctx, func(ctx context.Context) error { _, err := db.Session(ctx); return err })
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t, dbscope.ResetConnections(), dbscope.AllowUnscoped())
			ok(t, test.do(t.Context(), db))
			log := slices.DeleteFunc(f.Log(), func(line string) bool { return line == "open " || line == "open" })
			equal(t, "the log", log, test.want...)
		})
	}
}

func TestAConnectionThatCannotBeResetIsClosedAndItsUnitIsStored(t *testing.T) {
	f, db := newFake(t, dbscope.ResetConnections())
	f.Inject("reset", drivertest.Fault{Err: errStop})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }))
	equal(t, "the log", f.Log()[4:], "commit", "reset", "discard")
	equal(t, "the rows", f.Rows(), "a")
}

func TestAConnectionThatWasLostIsNotReset(t *testing.T) {
	f, db := newFake(t, dbscope.ResetConnections())
	f.Inject("exec b", drivertest.Fault{Err: errStop, Fate: driver.Lost})
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") }), errStop)
	equal(t, "the log", f.Log()[3:], "exec b", "discard")
}

func TestAResetThatHangsHoldsTheUnitsEndForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, db := newFake(t, dbscope.ResetConnections())
		f.Inject("reset", drivertest.Fault{Until: make(chan struct{})})
		began := time.Now()
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }))
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		equal(t, "the log", f.Log()[4:], "commit", "reset", "discard")
	})
}

// A reset between two COMMITs would be time in which the second can yet fail.
func TestConnectionsAreResetWhenAllDatabasesOfTheUnitAreCommitted(t *testing.T) {
	f := drivertest.NewFake()
	idleConns(t, f)
	one, two := f.DB(dbscope.ResetConnections()), f.DB(dbscope.ResetConnections())
	both := func(ctx context.Context) error {
		return errors.Join(drivertest.Exec(ctx, one, "a"), drivertest.Exec(ctx, two, "b"))
	}
	together := func(ctx context.Context) error {
		g := dbscope.NewGroup(ctx)
		g.SetLimit(1)
		g.CommitTogether()
		g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, one, "a") })
		g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, two, "b") })
		return g.Wait()
	}
	begun := func(ctx context.Context) error {
		ctx, s := dbscope.Begin(ctx)
		return errors.Join(both(ctx), s.Commit(ctx), s.End(ctx))
	}
	for name, unit := range map[string]func(context.Context) error{
		"Run":            func(ctx context.Context) error { return dbscope.Run(ctx, both) },
		"CommitTogether": together,
		"Scope.Commit":   begun,
	} {
		t.Run(name, func(t *testing.T) {
			before := len(f.Log())
			ok(t, unit(t.Context()))
			log := f.Log()[before:]
			log = log[slices.Index(log, "commit"):]
			equal(t, "the log", log, "commit", "commit", "reset", "release", "reset", "release")
		})
	}
}

// Whoever ends a session late, as its statement returns, gives its connection back
// by itself.
func TestASessionThatOutlivesItsScopeResetsItsConnectionToo(t *testing.T) {
	for n := range 200 {
		f, db := newFake(t, dbscope.ResetConnections())
		entered, proceed := make(chan struct{}), make(chan struct{})
		f.Inject("exec slow", drivertest.Fault{Entered: entered, Until: proceed})
		done := make(chan struct{})
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			go func() {
				defer close(done)
				_ = drivertest.Exec(ctx, db, "slow")
			}()
			<-entered
			if n%2 == 0 {
				go close(proceed) // at the same time as the end
			}
			return nil
		})
		if n%2 == 1 {
			close(proceed)
		}
		<-done
		log := f.Log()
		if end := fmt.Sprint(log[len(log)-2:]); end != "[reset release]" {
			t.Fatalf("the unit ended with %v: %v", err, log)
		}
		if f.Open() != 0 {
			t.Fatalf("a connection is out of the pool: %v", log)
		}
	}
}
