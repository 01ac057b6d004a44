package dbscope_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// limited returns a DB on a pool of n connections.
func limited(t *testing.T, n int, opts ...dbscope.DBOption) *dbscope.DB[*drivertest.Tx] {
	f, db := newFake(t, opts...)
	f.LimitConns(n)
	return db
}

// use is a unit of one statement on each database, each in a unit inside the one
// before.
func use(ctx context.Context, dbs ...*dbscope.DB[*drivertest.Tx]) error {
	if len(dbs) == 0 {
		return nil
	}
	return dbscope.Run(ctx, func(ctx context.Context) error {
		if err := drivertest.Exec(ctx, dbs[0], "a"); err != nil {
			return err
		}
		return use(ctx, dbs[1:]...)
	})
}

// takesNoTime runs the test, in which nobody sleeps: time goes on only where all
// wait for each other.
func takesNoTime(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		test(t)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAUnitThatCanOnlyWaitForItselfIsToldAtOnce(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	for name, inner := range map[string]func(context.Context, DB) error{
		"a unit in a unit": func(ctx context.Context, db DB) error { return use(ctx, db) },
		"a unit in a unit without statements": func(ctx context.Context, db DB) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { return use(ctx, db) })
		},
		"Detached": func(ctx context.Context, db DB) error {
			return db.Detached(ctx, func(ctx context.Context, tx *drivertest.Tx) error { return tx.Exec(ctx, "b") })
		},
		"a sibling": func(ctx context.Context, db DB) error {
			sibling := db.Sibling("s")
			err := drivertest.Exec(ctx, sibling, "b")
			return errors.Join(err, sibling.Rollback(ctx))
		},
		"a unit that is not cancelled with the outer one": func(ctx context.Context, db DB) error {
			return use(context.WithoutCancel(ctx), db)
		},
		"PurgeLedger": func(ctx context.Context, db DB) error { return db.PurgeLedger(ctx, time.Hour) },
		"with the connection between two transactions": func(ctx context.Context, db DB) error {
			ok(t, db.Commit(ctx))
			return use(ctx, db)
		},
		"a hook of an early commit": func(ctx context.Context, db DB) (err error) {
			ok(t, db.AfterCommit(ctx, func(ctx context.Context) error { // which has the connection that is kept
				exec(ctx, t, db, "b")
				err = use(ctx, db)
				return nil
			}))
			ok(t, db.Commit(ctx))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			takesNoTime(t, func(t *testing.T) {
				db := limited(t, 1)
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					exec(ctx, t, db, "a")
					is(t, inner(ctx, db), dbscope.ErrPoolDeadlock)
					return nil
				}))
			})
		})
	}
}

func TestOfUnitsThatWaitForEachOtherOneIsToldAtOnceAndTheOthersGoOn(t *testing.T) {
	for name, pools := range map[string][][]int{ // which pool each unit uses first, and in it
		"a pool of four":         {{0, 0}, {0, 0}, {0, 0}, {0, 0}},
		"two in different order": {{1, 2}, {2, 1}},
		"a circle of three":      {{1, 2}, {2, 3}, {3, 1}},
		"units of three":         {{1, 4, 2}, {2, 5, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			takesNoTime(t, func(t *testing.T) {
				dbs := []*dbscope.DB[*drivertest.Tx]{limited(t, 4)}
				for range 5 {
					dbs = append(dbs, limited(t, 1))
				}
				var first, all sync.WaitGroup
				first.Add(len(pools))
				var told atomic.Int32
				for _, order := range pools {
					all.Go(func() {
						err := dbscope.Run(t.Context(), func(ctx context.Context) error {
							exec(ctx, t, dbs[order[0]], "a")
							first.Done()
							first.Wait()
							var inner []*dbscope.DB[*drivertest.Tx]
							for _, i := range order[1:] {
								inner = append(inner, dbs[i])
							}
							return use(ctx, inner...)
						})
						if err != nil {
							is(t, err, dbscope.ErrPoolDeadlock)
							told.Add(1)
						}
					})
				}
				all.Wait()
				if n := told.Load(); n != 1 {
					t.Errorf("%d were told, want 1", n)
				}
			})
		})
	}
}

func TestUnitsInUnitsOnPoolsThatAreTooSmallAllEndAtOnce(t *testing.T) {
	takesNoTime(t, func(t *testing.T) {
		var dbs []*dbscope.DB[*drivertest.Tx]
		for size := range 4 {
			dbs = append(dbs, limited(t, size+1))
		}
		var all sync.WaitGroup
		var done atomic.Int32
		for range 16 {
			all.Go(func() {
				for range races() / 50 {
					var some []*dbscope.DB[*drivertest.Tx]
					for range 1 + rand.N(3) {
						some = append(some, dbs[rand.N(len(dbs))])
					}
					if err := use(t.Context(), some...); err == nil {
						done.Add(1)
					} else if !errors.Is(err, dbscope.ErrPoolDeadlock) {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if done.Load() == 0 {
			t.Error("none was committed")
		}
	})
}

func TestAUnitIsNotToldOfADeadlockWhereTheUnitAroundItGoesOn(t *testing.T) {
	for name, in := range map[string]func(context.Context) context.Context{
		"with its context":      func(ctx context.Context) context.Context { return ctx },
		"that is to outlive it": context.WithoutCancel,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := limited(t, 1)
				var aside sync.WaitGroup
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					exec(ctx, t, db, "a")
					aside.Go(func() { ok(t, use(in(ctx), db)) })
					time.Sleep(time.Second)
					return nil
				}))
				aside.Wait()
			})
		})
	}
}

func TestAConnectionThatSomebodyElseHoldsMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := limited(t, 2)
		var aside sync.WaitGroup
		aside.Go(func() {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				time.Sleep(time.Second)
				return nil
			}))
		})
		synctest.Wait()
		ok(t, use(t.Context(), db, db))
		aside.Wait()
	})
}

func TestOfUnitsThatWaitInOneUnitEachHoldsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := limited(t, 3)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			g := dbscope.NewGroup(ctx)
			for range 2 { // both wait inside the same unit, and it holds one of three
				g.Go(func(ctx context.Context) error { return use(ctx, db) })
			}
			return g.Wait()
		}))
	})
}
