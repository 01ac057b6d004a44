package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// What libraries for transactions in Go were found to break, by its number.

// Defect 1.
func TestABlockWhoseContextIsCancelledIsUndoneThoughTheOuterUnitGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for _, before := range []bool{false, true} { // the outer unit has done something
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				if before {
					ok(t, insert(ctx, d, 11))
				}
				inner, cancel := context.WithCancel(ctx)
				is(t, d.Atomic(inner, func(ctx context.Context) error {
					ok(t, insert(ctx, d, 2))
					cancel()
					return insert(ctx, d, 3)
				}), context.Canceled)
				return insert(ctx, d, map[bool]int{false: 1, true: 12}[before])
			}))
		}
		want(t, "stored", d.stored(t), 1, 11, 12)
	})
}

// Defect 2.
func TestGoexitStoresNothingAndKeepsNoConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		leave := func(ctx context.Context) error {
			ok(t, insert(ctx, d, 2))
			runtime.Goexit()
			return nil
		}
		for name, nest := range nests(d) {
			aside(func() {
				if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return nest(ctx, leave) }); err == nil {
					t.Errorf("%s: no error", name)
				}
			})
			if got, n := d.stored(t), d.inUse(t); got != nil || n != 0 {
				t.Errorf("%s: stored %v, %d connections in use", name, got, n)
			}
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			aside(func() { _ = d.Atomic(ctx, leave) })
			return insert(ctx, d, 3)
		}))
		want(t, "stored by a unit that goes on", d.stored(t), 1, 3)
	})
}

// Defect 3.
func TestAHandleOfAnotherDatabaseTakenInsideABlockRunsOnItsOwn(t *testing.T) {
	onEach(t, func(t *testing.T, d1 *opened) {
		d2 := open(t, d1.database)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d1, 1))
			is(t, d1.Atomic(ctx, func(ctx context.Context) error {
				handle, err := d2.handle(ctx)
				ok(t, err)
				for i, to := range []execer{handle, d2, d2.SQL(), d1} {
					ok(t, insert(ctx, to, 2+i))
				}
				return errStop
			}), errStop)
			return nil
		}))
		want(t, "stored in the first", d1.stored(t), 1)
		want(t, "stored in the second", d2.stored(t), 2, 3, 4)
	})
}

// Defect 4.
func TestBlocksSideBySideInOneScopeDoTheirWorkOrAreBusy(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		done := make(chan int, 1000)
		for start, nested := range map[int]bool{100: true, 500: false} { // else each is a transaction
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				if nested {
					done <- start
					ok(t, insert(ctx, d, start))
				}
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						for j := range 30 {
							id, end := start+1+30*i+j, []error{nil, errStop}[j%2]
							err := d.Atomic(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, d, id), end) })
							switch {
							case err == nil && end == nil:
								done <- id
							case !errors.Is(err, dbscope.ErrSessionBusy) && (end == nil || !errors.Is(err, end)):
								t.Errorf("a block says: %v", err)
							}
						}
					})
				}
				wg.Wait()
				return nil
			}))
		}
		g := dbscope.NewGroup(t.Context())
		for i := range 8 {
			done <- i
			g.Go(func(ctx context.Context) error {
				return d.Atomic(ctx, func(ctx context.Context) error { return insert(ctx, d, i) })
			})
		}
		ok(t, g.Wait())
		close(done)
		want(t, "stored", d.stored(t), sorted(done)...)
	})
}

func TestTogetherTheBlocksOfOneFunctionAreStoredWithTheOthersOrNotAtAll(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for i, end := range []error{errStop, nil} {
			g := dbscope.NewGroup(t.Context())
			g.CommitTogether()
			done := make(chan struct{})
			g.Go(func(ctx context.Context) error {
				defer close(done)
				is(t, d.Atomic(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, d, 10*i+1), errStop) }), errStop)
				ok(t, d.Atomic(ctx, func(ctx context.Context) error { return insert(ctx, d, 10*i+2) }))
				is(t, ofHandle(true)(ctx, d), dbscope.ErrOpenTransaction)
				return insert(ctx, d, 10*i+3)
			})
			g.Go(func(context.Context) error {
				<-done
				want(t, "stored too early", d.stored(t))
				return end
			})
			is(t, g.Wait(), end)
		}
		want(t, "stored", d.stored(t), 12, 13)
	})
}

// Defect 5.
func TestRequestsCancelledWithNothingInFlightKeepTheirConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for i := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			unit := func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				cancel()
				return ctx.Err()
			}
			if i%2 == 0 {
				is(t, dbscope.Run(ctx, unit), context.Canceled)
			} else {
				is(t, inRun(ctx, d, nil, unit), context.Canceled)
			}
		}
		if n := d.dialed.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
		want(t, "stored", d.stored(t))
	})
}

// Defect 6.
func TestAConstraintThatFailsAtCommitIsToldAndNotRetried(t *testing.T) {
	onEachDeferring(t, func(t *testing.T, d *opened) {
		for name, run := range ownUnits(t, d, sql.LevelDefault) {
			attempts := 0
			err := run(func(ctx context.Context) error {
				attempts++
				_, err := d.ExecContext(ctx, "INSERT INTO t (id, parent) VALUES (1, 99)")
				return err
			}, dbscope.Retry(dbscope.RetryPolicy{}))
			is(t, err, dbscope.ErrRolledBack)
			if !errors.As(err, new(*dbscope.CommitError)) || attempts != 1 {
				t.Errorf("%s: %d attempts, then %v", name, attempts, err)
			}
		}
		want(t, "stored", d.stored(t))
	})
}

// Defect 7.
func TestAnErrorSwallowedInAJoinedTransactionCommitsNoHalfOfTheWork(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		half := func(end func(*sql.Tx) error) error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				tx, err := d.SQL(sqlscope.JoinBegin()).BeginTx(ctx, nil)
				ok(t, err)
				ok(t, insert(ctx, tx, 2))
				if insert(ctx, tx, 2) == nil {
					t.Error("a duplicate was stored")
				}
				_ = end(tx) // whatever it says: the error is swallowed
				return nil
			})
		}
		is(t, half((*sql.Tx).Rollback), dbscope.ErrRolledBack)
		want(t, "stored after a rollback", d.stored(t))
		// SQLite and MariaDB undo the failed statement alone and let one go on: all that
		// was told to be done is.
		end, stored := error(nil), []int{1, 2}
		if d.postgres {
			end, stored = dbscope.ErrRolledBack, nil
		}
		is(t, half((*sql.Tx).Commit), end)
		want(t, "stored after a commit", d.stored(t), stored...)
	})
}

// And no more than the block that it is in.
func TestATransactionThatJoinedABlockIsUndoneWithIt(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for i, end := range []error{errStop, nil} {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 10*i+1))
				err := d.Atomic(ctx, func(ctx context.Context) error {
					ok(t, insert(ctx, d, 10*i+2))
					tx, err := d.SQL(sqlscope.JoinBegin()).BeginTx(ctx, nil)
					ok(t, err)
					ok(t, insert(ctx, tx, 10*i+3))
					ok(t, tx.Rollback())
					is(t, insert(ctx, d, 10*i+4), dbscope.ErrRolledBack)
					return end
				})
				if end == nil {
					end = dbscope.ErrRolledBack
				}
				is(t, err, end)
				return insert(ctx, d, 10*i+5)
			}))
		}
		want(t, "stored", d.stored(t), 1, 5, 11, 15)
	})
}

// Defect 8.
func TestTheHooksOfAnUndoneSavepointRunAsUndone(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var ran []string
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			noted(ctx, t, d, "outer", &ran)
			is(t, d.Atomic(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 2))
				noted(ctx, t, d, "undone", &ran)
				return errors.Join(errStop, d.Atomic(ctx, func(ctx context.Context) error {
					ok(t, insert(ctx, d, 3))
					noted(ctx, t, d, "released in it", &ran)
					return nil
				}))
			}), errStop)
			tx, err := d.SQL().BeginTx(ctx, nil)
			ok(t, err)
			ok(t, insert(ctx, tx, 4))
			ok(t, d.AfterCommit(ctx, note(&ran, "the transaction's AfterCommit")))
			ok(t, d.AfterRollback(ctx, note(&ran, "the transaction's AfterRollback")))
			ok(t, tx.Rollback())
			want(t, "hooks before the end", make([]int, len(ran)))
			return nil
		}))
		want(t, "stored", d.stored(t), 1)
		equal(t, "hooks", ran, "outer's AfterCommit", "outer's DB.AfterCommit", "undone's AfterRollback", "undone's DB.AfterRollback",
			"released in it's AfterRollback", "released in it's DB.AfterRollback", "the transaction's AfterRollback")
	})
}

// Defect 9.
func TestACancelledUnitTellsTheCause(t *testing.T) {
	gone := errors.New("the client went away")
	onEach(t, func(t *testing.T, d *opened) {
		during := func(ctx context.Context, cancel func()) error {
			go func() {
				d.running(t)
				cancel()
			}()
			_, err := d.ExecContext(ctx, d.slow())
			return err
		}
		for name, fn := range map[string]func(ctx context.Context, cancel func()) error{
			"before a statement": func(ctx context.Context, cancel func()) error {
				cancel()
				return insert(ctx, d, 1)
			},
			"during one":                        during,
			"during one whose error is ignored": func(ctx context.Context, cancel func()) error { _ = during(ctx, cancel); return nil },
		} {
			for _, block := range []bool{false, true} {
				ctx, cancel := context.WithCancelCause(t.Context())
				unit := func(ctx context.Context) error {
					ok(t, insert(ctx, d, 0))
					return fn(ctx, func() { cancel(gone) })
				}
				err := dbscope.Run(ctx, func(ctx context.Context) error {
					if block {
						return d.Atomic(ctx, unit)
					}
					return unit(ctx)
				})
				if !errors.Is(err, gone) || errors.Is(err, sql.ErrTxDone) {
					t.Errorf("cancelled %s, in a block %t: %v", name, block, err)
				}
				want(t, "stored", d.stored(t))
				d.stop(t)
			}
		}
		// With nothing in flight nothing is lost: what returns nil is committed.
		ctx, cancel := context.WithCancelCause(t.Context())
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			cancel(gone)
			return nil
		}))
		want(t, "stored", d.stored(t), 1)
	})
}

// Defect 10.
func TestWhatIsNestedGetsTheContextItWasCalledWith(t *testing.T) {
	type key struct{}
	onEach(t, func(t *testing.T, d *opened) {
		for outer, nest := range nests(d) {
			for inner, nestAgain := range nests(d) {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					return nest(ctx, func(ctx context.Context) error {
						deadline := time.Now().Add(time.Hour)
						ctx, cancel := context.WithDeadline(context.WithValue(ctx, key{}, outer), deadline)
						defer cancel()
						return nestAgain(ctx, func(ctx context.Context) error {
							got, _ := ctx.Deadline()
							cancel()
							if ctx.Value(key{}) != outer || !got.Equal(deadline) || ctx.Err() == nil {
								t.Errorf("%s in %s: value %v, deadline %v, error %v", inner, outer, ctx.Value(key{}), got, ctx.Err())
							}
							return nil
						})
					})
				}))
			}
		}
	})
}

// deadlock is the error of a unit that waits for a connection that cannot come
// free. Where others hold some of the pool's, as [opened.leaveOne] does of pgx's,
// nobody knows that, and the wait is five seconds by the clock of a real pool.
func (d *opened) deadlock() error {
	if d.native {
		return context.DeadlineExceeded
	}
	return dbscope.ErrPoolDeadlock
}

// Defect 11.
func TestAUnitInAUnitOnAPoolOfOneConnectionEndsAndSaysWhy(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		t.Parallel()
		d.leaveOne(t)
		start := time.Now()
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			err := dbscope.Run(ctx, func(ctx context.Context) error { return insert(ctx, d, 2) })
			is(t, err, d.deadlock())
			if msg := err.Error(); !strings.Contains(msg, "make the pool larger, or release or end the outer unit first") {
				t.Errorf("the error is %q", msg)
			}
			return nil
		}))
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		want(t, "stored", d.stored(t), 1)
	})
}

// Defect 11, with a pool for each of two databases.
func TestUnitsThatUseTwoDatabasesInDifferentOrdersEndAndOneSaysWhy(t *testing.T) {
	onEach(t, func(t *testing.T, d1 *opened) {
		t.Parallel()
		d2 := open(t, d1.database)
		d1.leaveOne(t)
		d2.leaveOne(t)
		var both, all sync.WaitGroup
		both.Add(2)
		ended := make(chan error, 2)
		for _, order := range [][]*opened{{d1, d2}, {d2, d1}} {
			all.Go(func() {
				ended <- dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, order[0], 1))
					both.Done()
					both.Wait()
					return insert(ctx, order[1], 2)
				})
			})
		}
		all.Wait()
		err := errors.Join(<-ended, <-ended)
		is(t, err, d1.deadlock())
		if msg := err.Error(); !strings.Contains(msg, "use the databases in the same order everywhere") {
			t.Errorf("the error is %q", msg)
		}
	})
}

// Defect 12.
func TestANewUnitBeginsInTheContextOfOneThatIsOver(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var escaped []context.Context
		for _, end := range []error{nil, errStop} {
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				escaped = append(escaped, ctx)
				return errors.Join(end, d.Atomic(ctx, func(ctx context.Context) error {
					escaped = append(escaped, ctx)
					return nil
				}))
			}), end)
		}
		for i, ctx := range escaped {
			is(t, insert(ctx, d, 99), dbscope.ErrScopeEnded)
			var ran []string
			block := func(id int) func(context.Context) error {
				return func(ctx context.Context) error {
					ok(t, dbscope.AfterCommit(ctx, note(&ran, "AfterCommit")))
					return insert(ctx, d, 10*i+id)
				}
			}
			ok(t, dbscope.Run(ctx, block(1)))
			ok(t, inRun(ctx, d, block(2), block(3)))
			ok(t, nests(d)["Group"](ctx, block(4)))
			equal(t, "hooks", ran, "AfterCommit", "AfterCommit", "AfterCommit", "AfterCommit")
		}
		want(t, "stored", d.stored(t), 1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34)
	})
}

// Defect 13.
func TestAConflictThatCommitReportsIsRetried(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if d.ofMySQL {
			t.Skip("on one server a conflict fails a statement")
		}
		level := sql.LevelSerializable
		if !d.postgres {
			d, level = open(t, rollbackJournal), sql.LevelDefault
		}
		ok(t, insert(t.Context(), d.other, 0))
		for name, run := range ownUnits(t, d, level) {
			var ran []string
			var attempts int
			var end func()
			unit := func(ctx context.Context) error {
				ok(t, dbscope.AfterCommit(ctx, note(&ran, "AfterCommit")))
				ok(t, d.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(new(int)))
				ok(t, insert(ctx, d, len(name)))
				if attempts++; attempts == 1 {
					end = d.conflict(t)
				} else {
					end()
				}
				return nil
			}
			err := run(unit, dbscope.Retry(dbscope.RetryPolicy{Attempts: 1}))
			end()
			if !errors.As(err, new(*dbscope.CommitError)) || !errors.Is(err, dbscope.ErrRolledBack) || !conflicts(err) {
				t.Errorf("%s: one attempt says: %v", name, err)
			}
			attempts = 0
			ok(t, run(unit, dbscope.Retry(dbscope.RetryPolicy{})))
			if attempts != 2 {
				t.Errorf("%s: %d attempts", name, attempts)
			}
			equal(t, "hooks", ran, "AfterCommit")
		}
		want(t, "stored", d.stored(t), 0, len("Run"), len("Atomic"))
	})
}
