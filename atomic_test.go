package dbscope_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

var errBroken = errors.New("broken")

// R7.
func TestAnAtomicBlockWithNothingOpenIsATransactionOfItsOwn(t *testing.T) {
	f, db := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		for _, mode := range []dbscope.AtomicOption{dbscope.CommitOpen, dbscope.RollbackOpen, dbscope.ContinueOpen, dbscope.RefuseOpen} {
			if err := db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "kept") }, mode); err != nil {
				t.Errorf("%v: %v", mode, err)
			}
		}
		if err := db.Atomic(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "undone"), errStop) }); !errors.Is(err, errStop) {
			t.Errorf("error is %v", err)
		}
		if got := f.Rows(); len(got) != 4 {
			t.Errorf("stored before the scope's end: %v", got)
		}
		return errStop
	})
	is(t, err, errStop)
	equal(t, "stored", f.Rows(), "kept", "kept", "kept", "kept")
	if slices.Contains(f.Log(), "savepoint dbscope_1") {
		t.Errorf("a savepoint was made: %v", f.Log())
	}
}

func TestAnAtomicBlockInAnOpenTransactionIsWhatItsModeSays(t *testing.T) {
	for name, c := range map[string]struct {
		mode   []dbscope.AtomicOption
		inner  error
		want   error    // of Atomic
		stored []string // of a scope that fails afterwards
		all    []string // of one that does not
	}{
		"nested":                   {all: []string{"before", "block", "after"}},
		"nested, failing":          {inner: errStop, want: errStop, all: []string{"before", "after"}},
		"CommitOpen":               {mode: []dbscope.AtomicOption{dbscope.CommitOpen}, stored: []string{"before", "block"}, all: []string{"before", "block", "after"}},
		"CommitOpen, failing":      {mode: []dbscope.AtomicOption{dbscope.CommitOpen}, inner: errStop, want: errStop, stored: []string{"before"}, all: []string{"before", "after"}},
		"RollbackOpen":             {mode: []dbscope.AtomicOption{dbscope.RollbackOpen}, stored: []string{"block"}, all: []string{"block", "after"}},
		"RollbackOpen, failing":    {mode: []dbscope.AtomicOption{dbscope.RollbackOpen}, inner: errStop, want: errStop, all: []string{"after"}},
		"ContinueOpen":             {mode: []dbscope.AtomicOption{dbscope.ContinueOpen}, stored: []string{"before", "block"}, all: []string{"before", "block", "after"}},
		"ContinueOpen, failing":    {mode: []dbscope.AtomicOption{dbscope.ContinueOpen}, inner: errStop, want: errStop, all: []string{"after"}},
		"RefuseOpen":               {mode: []dbscope.AtomicOption{dbscope.RefuseOpen}, want: dbscope.ErrOpenTransaction, all: []string{"before", "after"}},
		"options it does not have": {mode: []dbscope.AtomicOption{dbscope.ReadOnly()}, want: dbscope.ErrOpenTransaction, all: []string{"before", "after"}},
		"options of its own":       {mode: []dbscope.AtomicOption{dbscope.CommitOpen, dbscope.Isolation(sql.LevelSerializable)}, stored: []string{"before", "block"}, all: []string{"before", "block", "after"}},
	} {
		for _, end := range []error{errStop, nil} {
			f, db := newFake(t)
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := drivertest.Exec(ctx, db, "before"); err != nil {
					return err
				}
				err := db.Atomic(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "block"), c.inner) }, c.mode...)
				if !errors.Is(err, c.want) {
					t.Errorf("%s: Atomic returned %v, want %v", name, err, c.want)
				}
				return errors.Join(drivertest.Exec(ctx, db, "after"), end)
			})
			is(t, err, end)
			want := c.stored
			if end == nil {
				want = c.all
			}
			if got := f.Rows(); !slices.Equal(got, want) {
				t.Errorf("%s, then %v: stored %v, want %v (%v)", name, end, got, want, f.Log())
			}
		}
	}
}

func TestAnAtomicBlockThatDoesNotReturnIsUndone(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("out") }, "Goexit": runtime.Goexit} {
		for _, before := range []bool{false, true} {
			f, db := newFake(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
					if before {
						_ = drivertest.Exec(ctx, db, "before")
					}
					return db.Atomic(ctx, func(ctx context.Context) error {
						_ = drivertest.Exec(ctx, db, "block")
						leave()
						return nil
					})
				})
			}()
			<-done
			if got := f.Rows(); got != nil || f.Open() != 0 {
				t.Errorf("%s: stored %v, %d connections out", name, got, f.Open())
			}
		}
	}
}

func TestASavepointIsSkippedWhileNothingWasDone(t *testing.T) {
	f, db := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		return db.Atomic(ctx, func(ctx context.Context) error {
			for _, end := range []error{errStop, nil, errStop} {
				err := db.Atomic(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "inner"), end) })
				is(t, err, end)
			}
			return drivertest.Exec(ctx, db, "outer")
		})
	})
	ok(t, err)
	equal(t, "stored", f.Rows(), "inner", "outer")
	want := []string{
		"open", "acquire", "begin", "exec inner", "rollback",
		"begin", "exec inner",
		"savepoint dbscope_1", "exec inner", "rollback to dbscope_1",
		"exec outer", "commit", "release",
	}
	equal(t, "calls", f.Log(), want...)
}

// A part that lost its connection before anything else was done is undone
// alone.
func TestABlockFromTheStartThatLosesItsConnectionLeavesTheRestIntact(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Lost})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			return db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "lost") })
		}), errBroken)
		return drivertest.Exec(ctx, db, "kept")
	}))
	equal(t, "stored", f.Rows(), "kept")
}

func TestInsideAnAtomicBlockTheOuterTransactionCannotBeEnded(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return db.Atomic(ctx, func(ctx context.Context) error {
			ok(t, drivertest.Exec(ctx, db, "one"))
			is(t, db.Commit(ctx), dbscope.ErrOpenTransaction)
			is(t, db.Rollback(ctx), dbscope.ErrOpenTransaction)
			for _, mode := range []dbscope.AtomicOption{dbscope.CommitOpen, dbscope.RollbackOpen, dbscope.ContinueOpen, dbscope.RefuseOpen} {
				is(t, db.Atomic(ctx, func(context.Context) error { t.Error("called"); return nil }, mode), dbscope.ErrOpenTransaction)
			}
			return drivertest.Exec(ctx, db, "two")
		})
	}))
	equal(t, "stored", f.Rows(), "one", "two")
}

func TestAStatementWithAnotherContextThanTheBlocksIsRefused(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(outer context.Context) error {
		ok(t, drivertest.Exec(outer, db, "before"))
		escaped := make(chan context.Context, 1)
		ok(t, db.Atomic(outer, func(ctx context.Context) error {
			escaped <- ctx
			is(t, drivertest.Exec(outer, db, "misplaced"), dbscope.ErrSessionBusy)
			is(t, db.Atomic(outer, func(context.Context) error { t.Error("called"); return nil }), dbscope.ErrSessionBusy)
			return drivertest.Exec(ctx, db, "inside")
		}))
		is(t, drivertest.Exec(<-escaped, db, "late"), sql.ErrTxDone)
		return drivertest.Exec(outer, db, "after")
	}))
	equal(t, "stored", f.Rows(), "before", "inside", "after")
}

func TestABlockThatHidesAnAbortedStatementIsUndoneAlone(t *testing.T) {
	f, db := newFake(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "before")
		f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
		is(t, db.Atomic(ctx, func(ctx context.Context) error {
			_ = drivertest.Exec(ctx, db, "block")
			return nil
		}), dbscope.ErrRolledBack)
		exec(ctx, t, db, "after")
		return nil
	}))
	equal(t, "stored", f.Rows(), "before", "after")
}

// What it was spoiled by is undone with it.
func TestABlockThatCanOnlyBeUndoneIsUndoneAlone(t *testing.T) {
	for name, spoil := range map[string]func(context.Context, *drivertest.Fake, *drivertest.Tx) error{
		"by a transaction that joined": func(ctx context.Context, _ *drivertest.Fake, tx *drivertest.Tx) error {
			joining, err := tx.Join(ctx)
			return errors.Join(err, joining.Exec(ctx, "joining"), joining.Rollback(ctx))
		},
		"by rows left open": func(ctx context.Context, f *drivertest.Fake, tx *drivertest.Tx) error {
			f.Inject("rows close", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
			_, err := tx.Query(ctx, "rows")
			return err
		},
		"by a transaction left open": func(ctx context.Context, _ *drivertest.Fake, tx *drivertest.Tx) error {
			inner, err := tx.Begin(ctx)
			return errors.Join(err, inner.Exec(ctx, "inner"))
		},
	} {
		for _, end := range []error{nil, errStop} {
			f, db := newFake(t)
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "before")
				err := db.Atomic(ctx, func(ctx context.Context) error {
					tx, err := db.Session(ctx)
					ok(t, err)
					ok(t, spoil(ctx, f, tx))
					return end
				})
				if end == nil {
					end = dbscope.ErrRolledBack
				}
				if !errors.Is(err, end) {
					t.Errorf("%s: Atomic returned %v, want %v", name, err, end)
				}
				if err := drivertest.Exec(ctx, db, "after"); err != nil {
					t.Errorf("%s, then: %v", name, err)
				}
				return nil
			}))
			equal(t, name, f.Rows(), "before", "after")
		}
	}
}

func TestABlockThatCommittedElsewhereIsNotRunAgain(t *testing.T) {
	f, db := newFake(t)
	other := f.DB(dbscope.Name("other"))
	attempts := 0
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return db.Atomic(ctx, func(ctx context.Context) error {
			attempts++
			exec(ctx, t, other, "elsewhere")
			ok(t, other.Commit(ctx))
			f.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted})
			return drivertest.Exec(ctx, db, "row")
		}, dbscope.Retry(dbscope.RetryPolicy{}))
	}), drivertest.ErrTransient)
	if attempts != 1 {
		t.Errorf("%d attempts", attempts)
	}
	equal(t, "stored", f.Rows(), "elsewhere")
}

func TestAPanicOfAHookLeavesNoConnectionOut(t *testing.T) {
	_, db := newFake(t)
	g := dbscope.NewGroup(t.Context())
	g.CommitTogether()
	for range 3 {
		g.Go(func(ctx context.Context) error {
			exec(ctx, t, db, "row")
			return dbscope.BeforeCommit(ctx, func(context.Context) error { panic("hook") })
		})
	}
	defer func() {
		if recover() == nil {
			t.Error("the panic is lost")
		}
	}()
	_ = g.Wait()
}

func TestAModeThatDoesNotExistIsRefused(t *testing.T) {
	f, db := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.AtomicMode(99))
	})
	if err == nil || !strings.Contains(err.Error(), "no mode 99") {
		t.Fatalf("the error is %v", err)
	}
	equal(t, "calls", f.Log())
}
