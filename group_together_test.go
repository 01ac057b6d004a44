package dbscope_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// together returns a Group whose functions commit together, and run one after
// the other, so that their order is known.
func together(ctx context.Context, opts ...dbscope.Option) *dbscope.Group {
	g := dbscope.NewGroup(ctx, opts...)
	g.SetLimit(1)
	g.CommitTogether()
	return g
}

func TestTogetherNothingIsCommittedBeforeAllHaveSucceeded(t *testing.T) {
	f, db := newFake(t)
	g := together(t.Context())
	g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
	g.Go(func(ctx context.Context) error {
		equal(t, "rows, too early", f.Rows())
		return drivertest.Exec(ctx, db, "b")
	})
	ok(t, g.Wait())
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "acquire", "begin", "exec b",
		"commit", "release", "commit", "release")
	equal(t, "rows", f.Rows(), "a", "b")
}

// However a function would commit.
func TestTogetherNoFunctionCommitsByItself(t *testing.T) {
	type DB = *dbscope.DB[*drivertest.Tx]
	store := func(db DB) func(context.Context) error {
		return func(ctx context.Context) error { return drivertest.Exec(ctx, db, "block") }
	}
	for name, c := range map[string]struct {
		commit func(context.Context, DB) error
		want   error
	}{
		"Atomic": {func(ctx context.Context, db DB) error { return db.Atomic(ctx, store(db)) }, nil},
		"Atomic, then undone": {func(ctx context.Context, db DB) error {
			is(t, db.Atomic(ctx, func(ctx context.Context) error { return errors.Join(store(db)(ctx), errBroken) }), errBroken)
			return store(db)(ctx)
		}, nil},
		"CommitOpen":   {func(ctx context.Context, db DB) error { return db.Atomic(ctx, store(db), dbscope.CommitOpen) }, dbscope.ErrOpenTransaction},
		"RollbackOpen": {func(ctx context.Context, db DB) error { return db.Atomic(ctx, store(db), dbscope.RollbackOpen) }, dbscope.ErrOpenTransaction},
		"Append":       {func(ctx context.Context, db DB) error { return db.Atomic(ctx, store(db), dbscope.ContinueOpen) }, dbscope.ErrOpenTransaction},
		"Reject":       {func(ctx context.Context, db DB) error { return db.Atomic(ctx, store(db), dbscope.RefuseOpen) }, dbscope.ErrOpenTransaction},
		"options":      {func(ctx context.Context, db DB) error { return db.Atomic(ctx, store(db), dbscope.ReadOnly()) }, dbscope.ErrOpenTransaction},
		"DB.Commit": {func(ctx context.Context, db DB) error {
			return errors.Join(store(db)(ctx), db.Commit(ctx))
		}, dbscope.ErrOpenTransaction},
		"Scope.Commit": {func(ctx context.Context, db DB) error {
			s, _ := dbscope.FromContext(ctx)
			return errors.Join(store(db)(ctx), s.Commit(ctx))
		}, dbscope.ErrOpenTransaction},
		"the handle": {func(ctx context.Context, db DB) error {
			tx, err := db.Session(ctx)
			return errors.Join(err, tx.Exec(ctx, "block"), tx.Commit(ctx))
		}, dbscope.ErrOpenTransaction},
	} {
		for _, open := range []bool{false, true} {
			for _, end := range []error{nil, errStop} {
				f, db := newFake(t)
				g := together(t.Context())
				g.Go(func(ctx context.Context) error {
					if open {
						exec(ctx, t, db, "before")
					}
					if err := c.commit(ctx, db); !errors.Is(err, c.want) {
						t.Errorf("%s, open %t: %v", name, open, err)
					}
					return nil
				})
				g.Go(func(context.Context) error {
					equal(t, name+": rows, too early", f.Rows())
					return end
				})
				is(t, g.Wait(), end)
				if n := len(f.Rows()); end != nil && n != 0 || end == nil && c.want == nil && n == 0 {
					t.Errorf("%s, open %t, then %v: stored %v", name, open, end, f.Rows())
				}
			}
		}
	}
}

func TestTogetherOneThatFailsUndoesAll(t *testing.T) {
	for _, failing := range []int{0, 1, 2} {
		f, db := newFake(t)
		var j journal
		g := together(t.Context())
		for i := range 3 {
			g.Go(func(ctx context.Context) error {
				if err := drivertest.Exec(ctx, db, "a"); err != nil {
					return err // the others' failure comes first
				}
				j.watch(ctx, t, "scope")
				if i == failing {
					return errStop
				}
				return nil
			})
		}
		if err := g.Wait(); err != errStop { //nolint:errorlint // nothing is joined to it
			t.Errorf("the error is %v", err)
		}
		equal(t, "rows", f.Rows())
		equal(t, "hooks", j.take(), slices.Repeat([]string{"scope undone"}, failing+1)...)
	}
}

// Marked, broken, prevented by a hook: what stands in the way of one stands in
// the way of all.
func TestTogetherNothingIsCommittedWhereOneCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(context.Context, *drivertest.Fake, *dbscope.DB[*drivertest.Tx]) error
		want  error
	}{
		"marked": {func(ctx context.Context, _ *drivertest.Fake, _ *dbscope.DB[*drivertest.Tx]) error {
			return dbscope.MarkRollback(ctx)
		}, dbscope.ErrRollbackOnly},
		"broken": {func(ctx context.Context, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) error {
			f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
			_ = drivertest.Exec(ctx, db, "b")
			return nil
		}, errStop},
		"prevented": {func(ctx context.Context, _ *drivertest.Fake, _ *dbscope.DB[*drivertest.Tx]) error {
			return dbscope.BeforeCommit(ctx, func(context.Context) error { return errBroken })
		}, errBroken},
	} {
		for _, spoiled := range []int{0, 1} {
			f, db := newFake(t)
			var j journal
			g := together(t.Context())
			for i := range 2 {
				g.Go(func(ctx context.Context) error {
					exec(ctx, t, db, "a")
					ok(t, dbscope.AfterCommit(ctx, j.hook("committed")))
					ok(t, dbscope.AfterRollback(ctx, j.hook("undone")))
					if i == spoiled {
						return c.spoil(ctx, f, db)
					}
					return nil
				})
			}
			is(t, g.Wait(), c.want)
			if slices.Contains(f.Log(), "commit") {
				t.Errorf("%s: calls: %v", name, f.Log())
			}
			equal(t, name, j.take(), "undone", "undone")
		}
	}
}

func TestTogetherAFailedCommitTellsWhatBecameOfEach(t *testing.T) {
	for outcome, want := range map[driver.Outcome]error{driver.RolledBack: dbscope.ErrRolledBack, driver.Unknown: dbscope.ErrCommitUnknown} {
		f := drivertest.NewFake()
		idleConns(t, f)
		var j journal
		g := together(t.Context())
		for _, name := range []string{"one", "two", "three"} {
			db := f.DB(dbscope.Name(name))
			g.Go(func(ctx context.Context) error {
				j.watch(ctx, t, name)
				return drivertest.Exec(ctx, db, name)
			})
		}
		f.Inject("commit", drivertest.Fault{})
		f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: outcome})
		err := g.Wait()
		is(t, err, want)
		is(t, err, errStop)
		var commit *dbscope.CommitError
		if !errors.As(err, &commit) {
			t.Fatalf("the error is a %T", err)
		}
		var got []string
		for _, o := range commit.Outcomes {
			got = append(got, o.DB+" "+o.State.String())
		}
		equal(t, "outcomes", got, "one committed", "two "+outcome.String(), "three rolled back")
		equal(t, "rows", f.Rows(), "one")
		hooks := []string{"one before", "two before", "three before", "one committed"}
		if outcome == driver.RolledBack {
			hooks = append(hooks, "two undone")
		}
		equal(t, "hooks", j.take(), append(hooks, "three undone")...)
	}
}

func TestTogetherHooksRunBeforeAnyIsCommittedAndAfterAllAre(t *testing.T) {
	f, db := newFake(t)
	f.LimitConns(2)
	g := together(t.Context())
	after := 0
	for range 2 {
		g.Go(func(ctx context.Context) error {
			scope, _ := dbscope.FromContext(ctx)
			ok(t, dbscope.BeforeCommit(ctx, func(ctx context.Context) error {
				if inside, _ := dbscope.FromContext(ctx); inside != scope {
					t.Error("the hook runs outside its scope")
				}
				equal(t, "rows, too early", f.Rows())
				return drivertest.Exec(ctx, db, "hook")
			}))
			ok(t, dbscope.AfterCommit(ctx, func(context.Context) error {
				after++
				equal(t, "rows", f.Rows(), "a", "hook", "a", "hook")
				if n := f.Open(); n != 0 {
					t.Errorf("%d connections are out", n)
				}
				return nil
			}))
			return drivertest.Exec(ctx, db, "a")
		})
	}
	ok(t, g.Wait())
	if after != 2 {
		t.Errorf("%d hooks ran", after)
	}
}

func TestTogetherABeforeCommitHookThatDoesNotReturnUndoesAll(t *testing.T) {
	for _, leave := range []func(){func() { panic("out") }, runtime.Goexit} {
		f, db := newFake(t)
		var j journal
		survive(func() {
			g := together(t.Context())
			for i := range 2 {
				g.Go(func(ctx context.Context) error {
					ok(t, dbscope.AfterRollback(ctx, j.hook("undone")))
					if i == 1 {
						ok(t, dbscope.BeforeCommit(ctx, func(context.Context) error { leave(); return nil }))
					}
					return drivertest.Exec(ctx, db, "a")
				})
			}
			_ = g.Wait()
			t.Error("it returned")
		})
		equal(t, "rows", f.Rows())
		equal(t, "hooks", j.take(), "undone", "undone")
		if n := f.Open(); n != 0 {
			t.Errorf("%d connections are out", n)
		}
	}
}

func TestTogetherTheErrorsOfAFailedEndAreTold(t *testing.T) {
	f, db := newFake(t)
	f.Inject("rollback", drivertest.Fault{Err: errBroken})
	g := together(t.Context())
	g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
	g.Go(func(context.Context) error { return errStop })
	err := g.Wait()
	is(t, err, errStop)
	is(t, err, errBroken)
}

func TestTogetherTheCallersCancellationAfterTheWorkDoesNotStopTheCommit(t *testing.T) {
	f, db := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	g := together(ctx)
	g.Go(func(ctx context.Context) error {
		exec(ctx, t, db, "a")
		cancel()
		return nil
	})
	ok(t, g.Wait())
	equal(t, "rows", f.Rows(), "a")
}

func TestTogetherRetryDoesNotCount(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	n := 0
	g := together(t.Context(), quickly)
	g.Go(func(ctx context.Context) error { n++; return drivertest.Exec(ctx, db, "a") })
	is(t, g.Wait(), drivertest.ErrTransient)
	g = together(t.Context(), quickly)
	f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	g.Go(func(ctx context.Context) error { n++; return drivertest.Exec(ctx, db, "a") })
	is(t, g.Wait(), drivertest.ErrTransient)
	if n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestEachOfAGroupRetriesOnItsOwn(t *testing.T) {
	f, db := newFake(t)
	f.Inject("exec", transient)
	f.Inject("exec", transient)
	g := dbscope.NewGroup(t.Context(), quickly)
	for range 3 {
		g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
	}
	ok(t, g.Wait())
	equal(t, "rows", f.Rows(), "a", "a", "a")
}

// Which waits for the one that waits for the connection.
func TestTogetherOneThatWaitsForTheConnectionOfOneThatIsDoneWaitsABoundedTime(t *testing.T) {
	for _, nested := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, db := newFake(t)
			f.LimitConns(1)
			start := time.Now()
			g := together(t.Context())
			use := func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }
			g.Go(use)
			g.Go(func(ctx context.Context) error {
				if nested {
					return dbscope.Run(ctx, use)
				}
				return use(ctx)
			})
			err := g.Wait()
			is(t, err, context.DeadlineExceeded)
			if !strings.Contains(err.Error(), "make the pool larger") {
				t.Errorf("the message is %q", err)
			}
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("it took %v", d)
			}
			equal(t, "rows", f.Rows())
		})
	}
}
