package dbscope_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// ends are the ways in which a block, or the unit around it, ends.
var ends = map[string]func(context.Context) error{
	"nil":    func(context.Context) error { return nil },
	"error":  func(context.Context) error { return errStop },
	"panic":  func(context.Context) error { panic("out") },
	"Goexit": func(context.Context) error { runtime.Goexit(); return nil },
}

// what the hooks "scope" and "db" of a block do once the whole is over.
var (
	hooksCommitted = []string{"scope before", "db before", "scope committed", "db committed"}
	hooksUndone    = []string{"scope undone", "db undone"}
)

// An error of the block is tolerated; a panic passes through the unit, which
// then does not get to its own end.
func TestHooksOfASavepointFollowItAndWhatIsAroundIt(t *testing.T) {
	for name, inner := range ends {
		for around, outer := range ends {
			for _, depth := range []int{0, 1, 2} { // blocks between the two
				f, db := newFake(t)
				var j journal
				survive(func() {
					_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
						exec(ctx, t, db, "before")
						nest(ctx, t, db, depth, func(ctx context.Context) {
							_ = db.Atomic(ctx, func(ctx context.Context) error {
								exec(ctx, t, db, "block")
								j.watch(ctx, t, "scope")
								j.watch(ctx, t, "db", db)
								return inner(ctx)
							})
						})
						equal(t, name+", too early", j.take())
						return outer(ctx)
					})
				})
				want := hooksUndone
				if name == "nil" && around == "nil" {
					want = hooksCommitted
				}
				equal(t, name+" in "+around, j.take(), want...)
				if stored := len(f.Rows()) > 0; stored != (around == "nil" && (name == "nil" || name == "error")) {
					t.Errorf("%s in %s stored %v", name, around, f.Rows())
				}
			}
		}
	}
}

// nest calls fn inside so many blocks, which are kept.
func nest(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx], depth int, fn func(context.Context)) {
	if depth == 0 {
		fn(ctx)
		return
	}
	ok(t, db.Atomic(ctx, func(ctx context.Context) error { nest(ctx, t, db, depth-1, fn); return nil }))
}

// A kept block's hooks share the fate of the block around it.
func TestHooksOfAKeptBlockInAnUndoneOneAreUndoneOnceAtTheEndOfTheWhole(t *testing.T) {
	for outcome, end := range map[driver.Outcome]error{driver.Committed: nil, driver.RolledBack: errStop, driver.Unknown: errBroken} {
		for _, before := range []bool{true, false} { // else the block is the whole transaction so far
			f, db := newFake(t)
			f.Inject("commit", drivertest.Fault{Err: end, Done: outcome == driver.Committed, Outcome: outcome})
			var j journal
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				return db.Atomic(ctx, func(ctx context.Context) error {
					if before {
						exec(ctx, t, db, "before")
					}
					j.watch(ctx, t, "outer", db)
					is(t, db.Atomic(ctx, func(ctx context.Context) error {
						ok(t, db.Atomic(ctx, func(ctx context.Context) error {
							exec(ctx, t, db, "block")
							j.watch(ctx, t, "scope")
							j.watch(ctx, t, "db", db)
							return nil
						}))
						return errStop
					}), errStop)
					exec(ctx, t, db, "after")
					equal(t, "too early", j.take())
					return nil
				})
			}), end)
			want := map[driver.Outcome][]string{
				driver.Committed: {"outer before", "outer committed", "db undone", "scope undone"},
				// With the transaction its block is undone, and so the scope's.
				driver.RolledBack: {"outer before", "outer undone", "db undone", "scope undone"},
				driver.Unknown:    {"outer before", "db undone", "scope undone"},
			}[outcome]
			equal(t, outcome.String(), j.take(), want...)
		}
	}
}

func TestHooksOfAnUndoneBlockDoNotTouchThoseOfItsSiblings(t *testing.T) {
	_, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "before")
		j.watch(ctx, t, "outside")
		ok(t, db.Atomic(ctx, func(ctx context.Context) error { j.watch(ctx, t, "kept"); return nil }))
		is(t, db.Atomic(ctx, func(ctx context.Context) error { j.watch(ctx, t, "gone"); return errStop }), errStop)
		ok(t, db.Atomic(ctx, func(ctx context.Context) error { j.watch(ctx, t, "kept too"); return nil }))
		return nil
	}))
	equal(t, "hooks", j.take(), "outside before", "kept before", "kept too before",
		"outside committed", "kept committed", "gone undone", "kept too committed")
}

// The scope's hooks wait for the scope.
func TestABlockThatIsATransactionRunsItsDatabasesHooksAsItEnds(t *testing.T) {
	for name, inner := range ends {
		f, db := newFake(t)
		var j journal
		var atTheEnd []string
		survive(func() {
			_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
				survive(func() {
					_ = db.Atomic(ctx, func(ctx context.Context) error {
						exec(ctx, t, db, "a")
						j.watch(ctx, t, "scope")
						j.watch(ctx, t, "db", db)
						return inner(ctx)
					})
				})
				atTheEnd = j.take()
				return nil
			})
		})
		if name == "nil" {
			equal(t, name, atTheEnd, "db before", "db committed")
			equal(t, name, j.take(), "scope before", "scope committed")
			equal(t, "rows", f.Rows(), "a")
			continue
		}
		equal(t, name, atTheEnd, "db undone")
		equal(t, name, j.take(), "scope undone")
	}
}

func TestHooksInABlockOfOneDatabaseInABlockOfAnotherFollowTheNearestOuterBlock(t *testing.T) {
	for _, outer := range []error{nil, errStop} {
		f, a := newFake(t)
		b := f.DB()
		var j journal
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			is(t, b.Atomic(ctx, func(ctx context.Context) error {
				exec(ctx, t, b, "b")
				ok(t, a.Atomic(ctx, func(ctx context.Context) error {
					exec(ctx, t, a, "a")
					j.watch(ctx, t, "scope")
					j.watch(ctx, t, "a", a)
					j.watch(ctx, t, "b", b)
					return nil
				}))
				equal(t, "hooks", j.take(), "a before", "a committed")
				return outer
			}), outer)
			return nil
		}))
		if outer == nil {
			equal(t, "hooks", j.take(), "b before", "b committed", "scope before", "scope committed")
		} else {
			equal(t, "hooks", j.take(), "b undone", "scope undone")
		}
	}
}

// A context that outlived its block registers for what is around the block.
func TestAHookWithTheContextOfABlockThatIsOverBelongsToTheNearestOpenOne(t *testing.T) {
	_, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "before")
		inner := make(chan context.Context, 1)
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			is(t, db.Atomic(ctx, func(ctx context.Context) error { inner <- ctx; return errStop }), errStop)
			escaped := <-inner
			inner <- escaped
			j.watch(escaped, t, "in the outer block")
			return errStop
		}), errStop)
		j.watch(<-inner, t, "outside")
		return nil
	}))
	equal(t, "hooks", j.take(), "outside before", "in the outer block undone", "outside committed")
}

// A handle's nested transaction is not in the context: the scope's hooks do
// not belong to it, the database's do.
func TestHooksOfADatabaseFollowATransactionNestedByItsHandle(t *testing.T) {
	committed := []string{"scope before", "db before", "scope committed", "db committed"}
	for name, c := range map[string]struct {
		end   func(context.Context, *drivertest.Tx) error
		outer error
		want  []string
	}{
		"kept":           {func(ctx context.Context, tx *drivertest.Tx) error { return tx.Commit(ctx) }, nil, committed},
		"kept, undone":   {func(ctx context.Context, tx *drivertest.Tx) error { return tx.Commit(ctx) }, errStop, hooksUndone},
		"undone":         {func(ctx context.Context, tx *drivertest.Tx) error { return tx.Rollback(ctx) }, nil, []string{"scope before", "scope committed", "db undone"}},
		"undone, undone": {func(ctx context.Context, tx *drivertest.Tx) error { return tx.Rollback(ctx) }, errStop, hooksUndone},
		"left open":      {func(context.Context, *drivertest.Tx) error { return nil }, dbscope.ErrOpenTransaction, append([]string{"scope before"}, hooksUndone...)},
	} {
		for _, before := range []bool{true, false} {
			_, db := newFake(t)
			var j journal
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				if before {
					exec(ctx, t, db, "before")
				}
				nested, err := drivertest.Begin(ctx, db)
				ok(t, err)
				inner, err := nested.Begin(ctx)
				ok(t, err)
				j.watch(ctx, t, "scope")
				j.watch(ctx, t, "db", db)
				ok(t, inner.Exec(ctx, "a"))
				ok(t, inner.Commit(ctx))
				ok(t, c.end(ctx, nested))
				equal(t, name+", too early", j.take())
				if errors.Is(c.outer, errStop) {
					return errStop
				}
				return nil
			}), c.outer)
			equal(t, name, j.take(), c.want...)
		}
	}
}

func TestHooksOfANestedTransactionWhoseContextEndsAreUndone(t *testing.T) {
	f, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "before")
		tx, err := db.Session(ctx)
		ok(t, err)
		short, cancel := context.WithCancel(ctx)
		nested, err := tx.Begin(short)
		ok(t, err)
		ok(t, nested.Exec(ctx, "gone"))
		j.watch(ctx, t, "db", db)
		cancel()
		exec(ctx, t, db, "after")
		j.watch(ctx, t, "later", db)
		return nil
	}))
	equal(t, "rows", f.Rows(), "before", "after")
	equal(t, "hooks", j.take(), "later before", "db undone", "later committed")
}

func TestABeforeCommitErrorInABlockThatIsATransactionUndoesTheBlock(t *testing.T) {
	f, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		err := db.Atomic(ctx, func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			ok(t, db.BeforeCommit(ctx, func(context.Context) error { return errStop }))
			j.watch(ctx, t, "scope")
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, errStop)
		return nil
	}))
	equal(t, "rows", f.Rows())
	equal(t, "hooks", j.take(), "scope undone")
}

// Its failure was hidden, and the block is undone alone.
func TestHooksOfABlockThatCannotBeKeptAreUndone(t *testing.T) {
	f, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "before")
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			j.watch(ctx, t, "scope")
			j.watch(ctx, t, "db", db)
			f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
			is(t, drivertest.Exec(ctx, db, "block"), errBroken)
			return nil
		}), errBroken)
		return nil
	}))
	equal(t, "rows", f.Rows(), "before")
	equal(t, "hooks", j.take(), hooksUndone...)
}

// By a goroutine that its function does not wait for.
func TestHooksOfABlockThatIsOpenWhenTheOneAroundItEndsAreUndone(t *testing.T) {
	f, db := newFake(t)
	var j journal
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		leave, left := make(chan struct{}), make(chan struct{})
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			exec(ctx, t, db, "outer")
			inside := make(chan struct{})
			go func() {
				defer close(left)
				if err := db.Atomic(ctx, func(ctx context.Context) error {
					j.watch(ctx, t, "inner")
					ok(t, db.AfterCommit(ctx, j.hook("inner's DB committed")))
					close(inside)
					<-leave
					return nil
				}); err == nil {
					t.Error("the inner block was kept")
				}
			}()
			<-inside
			return nil
		}), dbscope.ErrRolledBack)
		close(leave)
		<-left
		exec(ctx, t, db, "after")
		return nil
	}))
	equal(t, "rows", f.Rows(), "after")
	equal(t, "hooks", j.take(), "inner undone")
}
