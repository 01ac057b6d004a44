package dbscope_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// journal notes which hooks ran, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

// take returns what was noted since the last call.
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	j.lines = nil
	return lines
}

func (j *journal) hook(line string) func(context.Context) error {
	return func(context.Context) error { j.note(line); return nil }
}

// watch registers a hook of each kind, for the scope or for one DB.
func (j *journal) watch(ctx context.Context, t *testing.T, name string, dbs ...*dbscope.DB[*drivertest.Tx]) {
	t.Helper()
	if len(dbs) == 0 {
		ok(t, dbscope.BeforeCommit(ctx, j.hook(name+" before")))
		ok(t, dbscope.AfterCommit(ctx, j.hook(name+" committed")))
		ok(t, dbscope.AfterRollback(ctx, j.hook(name+" undone")))
	}
	for _, db := range dbs {
		ok(t, db.BeforeCommit(ctx, j.hook(name+" before")))
		ok(t, db.AfterCommit(ctx, j.hook(name+" committed")))
		ok(t, db.AfterRollback(ctx, j.hook(name+" undone")))
	}
}

// survive calls fn in a goroutine that may panic or end.
func survive(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		fn()
	}()
	<-done
}

func TestHooksRunInTheOrderOfRegistrationAcrossTheScopeAndItsDatabases(t *testing.T) {
	for end, want := range map[error][]string{
		nil: {
			"1 before", "2 before", "3 before", "4 before", "5 before",
			"1 committed", "2 committed", "3 committed", "4 committed", "5 committed",
		},
		errStop: {"1 undone", "2 undone", "3 undone", "4 undone", "5 undone"},
	} {
		f, one := newFake(t)
		two := f.DB()
		var j journal
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, one, "1")
			exec(ctx, t, two, "2")
			j.watch(ctx, t, "1", two)
			j.watch(ctx, t, "2")
			j.watch(ctx, t, "3", one)
			j.watch(ctx, t, "4")
			j.watch(ctx, t, "5", two)
			return end
		}), end)
		equal(t, "hooks", j.take(), want...)
	}
}

func TestABeforeCommitHookIsPartOfTheUnitAlsoWhenThatWasCancelled(t *testing.T) {
	f, db := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		scope, _ := dbscope.FromContext(ctx)
		ok(t, dbscope.BeforeCommit(ctx, func(ctx context.Context) error {
			if inside, _ := dbscope.FromContext(ctx); inside != scope {
				t.Error("the hook runs outside the scope")
			}
			return drivertest.Exec(ctx, db, "hook")
		}))
		exec(ctx, t, db, "a")
		cancel()
		return nil
	}))
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "exec hook", "commit", "release")
}

// R13, also where Commit is given a context of another scope.
func TestABeforeCommitHookRunsInTheScopeThatIsCommitted(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := dbscope.Begin(t.Context())
	ok(t, dbscope.BeforeCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") }))
	ok(t, dbscope.Run(t.Context(), func(other context.Context) error { return scope.Commit(other) }))
	ok(t, scope.End(ctx))
	equal(t, "rows", f.Rows(), "hook")
}

// R13.
func TestABeforeCommitErrorPreventsTheCommitOfAllDatabases(t *testing.T) {
	for _, ofDB := range []bool{false, true} {
		f, one := newFake(t)
		two := f.DB()
		var j journal
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, one, "1")
			exec(ctx, t, two, "2")
			failing := func(context.Context) error { return errBroken }
			if ofDB {
				ok(t, two.BeforeCommit(ctx, failing))
			} else {
				ok(t, dbscope.BeforeCommit(ctx, failing))
			}
			j.watch(ctx, t, "scope")
			j.watch(ctx, t, "one", one)
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, errBroken)
		equal(t, "rows", f.Rows())
		equal(t, "hooks", j.take(), "scope undone", "one undone")
		if slices.Contains(f.Log(), "commit") {
			t.Errorf("calls: %v", f.Log())
		}
	}
}

func TestABeforeCommitHookMayRegisterHooksAndMarkTheScope(t *testing.T) {
	f, db := newFake(t)
	var j journal
	unit := func(mark bool) error {
		return dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, dbscope.BeforeCommit(ctx, func(ctx context.Context) error {
				j.watch(ctx, t, "inner", db)
				return dbscope.BeforeCommit(ctx, func(ctx context.Context) error {
					j.watch(ctx, t, "innermost")
					if mark {
						ok(t, dbscope.MarkRollback(ctx))
					}
					return drivertest.Exec(ctx, db, "a")
				})
			}))
			j.watch(ctx, t, "outer")
			return nil
		})
	}
	ok(t, unit(false))
	equal(t, "hooks", j.take(), "outer before", "inner before", "innermost before",
		"outer committed", "inner committed", "innermost committed")
	is(t, unit(true), dbscope.ErrRollbackOnly)
	equal(t, "hooks", j.take(), "outer before", "inner before", "innermost before",
		"outer undone", "inner undone", "innermost undone")
	equal(t, "rows", f.Rows(), "a")
}

// Each way to be undone: no BeforeCommit, no AfterCommit, AfterRollback once.
func TestAfterRollbackHooksRunHoweverTheUnitIsUndoneAndBeforeCommitOnesDoNot(t *testing.T) {
	f, db := newFake(t)
	breaking := func(ctx context.Context) error {
		f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
		is(t, drivertest.Exec(ctx, db, "b"), errBroken)
		return nil
	}
	for name, leave := range map[string]func(context.Context) error{
		"error":    func(context.Context) error { return errStop },
		"panic":    func(context.Context) error { panic("out") },
		"Goexit":   func(context.Context) error { runtime.Goexit(); return nil },
		"marked":   dbscope.MarkRollback,
		"broken":   breaking,
		"Rollback": func(ctx context.Context) error { s, _ := dbscope.FromContext(ctx); return s.Rollback(ctx) },
		"End":      func(ctx context.Context) error { s, _ := dbscope.FromContext(ctx); return s.End(ctx) },
	} {
		var j journal
		survive(func() {
			_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				j.watch(ctx, t, "scope")
				j.watch(ctx, t, "db", db)
				return leave(ctx)
			})
		})
		equal(t, name, j.take(), "scope undone", "db undone")
		equal(t, name+": rows", f.Rows())
	}
}

func TestHooksTellAFailedCommitFromALostOne(t *testing.T) {
	for outcome, want := range map[driver.Outcome][]string{
		driver.RolledBack: {"scope before", "db before", "scope undone", "db undone"},
		driver.Unknown:    {"scope before", "db before"},
	} {
		f, db := newFake(t)
		f.Inject("commit", drivertest.Fault{Err: errStop, Outcome: outcome})
		var j journal
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			j.watch(ctx, t, "scope")
			j.watch(ctx, t, "db", db)
			return nil
		}), errStop)
		equal(t, outcome.String(), j.take(), want...)
	}
}

func TestRowsLeftOpenAreClosedBeforeBeforeCommitHooksRun(t *testing.T) {
	for _, early := range []bool{false, true} {
		f, db := newFake(t)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			_, err = tx.Query(ctx, "all")
			ok(t, err)
			ok(t, db.BeforeCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "hook") }))
			if early {
				ok(t, db.Commit(ctx))
			}
			return nil
		}))
		equal(t, "calls", f.Log(), "open", "acquire", "begin", "query all", "rows close", "exec hook", "commit", "release")
	}
}

func TestABeforeCommitHookThatDoesNotReturnUndoesTheUnit(t *testing.T) {
	for _, leave := range []func(){func() { panic("out") }, runtime.Goexit} {
		f, db := newFake(t)
		var j journal
		survive(func() {
			_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
				exec(ctx, t, db, "a")
				ok(t, dbscope.BeforeCommit(ctx, func(context.Context) error { leave(); return nil }))
				j.watch(ctx, t, "scope")
				return nil
			})
			t.Error("it returned")
		})
		equal(t, "hooks", j.take(), "scope undone")
		equal(t, "calls", f.Log(), "open", "acquire", "begin", "exec a", "rollback", "release")
	}
}

// The pool of one connection shows that the unit's is back.
func TestAnAfterHookHasAScopeOfItsOwnAndIsNotCancelledWithTheUnit(t *testing.T) {
	type key struct{}
	for _, end := range []error{nil, errStop} {
		f, db := newFake(t)
		f.LimitConns(1)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
		is(t, dbscope.Run(ctx, func(ctx context.Context) error {
			unit, _ := dbscope.FromContext(ctx)
			hook := func(ctx context.Context) error {
				if n := f.Open(); n != 0 {
					t.Errorf("%d connections are out", n)
				}
				if own, found := dbscope.FromContext(ctx); !found || own == unit || ctx.Value(key{}) != "kept" {
					t.Error("the hook's context is not one of its own scope with the unit's values")
				}
				return drivertest.Exec(ctx, db, "hook")
			}
			ok(t, dbscope.AfterCommit(ctx, hook))
			ok(t, dbscope.AfterRollback(ctx, hook))
			exec(ctx, t, db, "a")
			cancel()
			return end
		}), end)
		want := []string{"hook"}
		if end == nil {
			want = []string{"a", "hook"}
		}
		equal(t, "rows", f.Rows(), want...)
	}
}

func TestAfterHooksAllRunWhateverSomeOfThemDo(t *testing.T) {
	f, db := newFake(t)
	var j journal
	var reports []error
	report := dbscope.OnHookError(func(_ context.Context, err error) { reports = append(reports, err) })
	unit := func(leave func()) error {
		return dbscope.Run(t.Context(), func(ctx context.Context) error {
			for _, failing := range []func(context.Context) error{
				func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "undone"), errStop) },
				func(ctx context.Context) error { exec(ctx, t, db, "undone"); panic("a value of its own") },
				func(ctx context.Context) error { exec(ctx, t, db, "undone"); leave(); return errBroken },
			} {
				ok(t, dbscope.AfterCommit(ctx, failing))
				ok(t, dbscope.AfterCommit(ctx, j.hook("next")))
			}
			return nil
		}, report)
	}
	ok(t, unit(func() {}))
	survive(func() { _ = unit(runtime.Goexit); t.Error("it returned") })
	equal(t, "rows", f.Rows())
	equal(t, "hooks", j.take(), "next", "next", "next", "next", "next", "next")
	if len(reports) != 2 {
		t.Fatalf("reports: %v", reports)
	}
	is(t, reports[0], errBroken)
	for _, err := range reports {
		is(t, err, errStop)
		if msg := err.Error(); !strings.Contains(msg, "a value of its own") || !strings.Contains(msg, "hooks_test.go") {
			t.Errorf("the panic or its stack is missing: %v", err)
		}
	}
	if !strings.Contains(reports[1].Error(), "ended its goroutine") {
		t.Errorf("the report is %v", reports[1])
	}
}

func TestWithoutOnHookErrorFailedAfterHooksAreLogged(t *testing.T) {
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	defer slog.SetDefault(before)
	unit := func(hook func(context.Context) error) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return dbscope.AfterCommit(ctx, hook) }))
	}
	unit(func(context.Context) error { return nil })
	if b.Len() != 0 {
		t.Errorf("the log is %q", b.String())
	}
	unit(func(context.Context) error { return errStop })
	if log := b.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "error=stop") {
		t.Errorf("the log is %q", log)
	}
}

func TestAnAfterHookMayRegisterHooksOfItsOwnScope(t *testing.T) {
	f, db := newFake(t)
	var j journal
	var reported error
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return dbscope.AfterCommit(ctx, func(ctx context.Context) error {
			j.watch(ctx, t, "outer")
			j.watch(ctx, t, "db", db)
			ok(t, dbscope.AfterCommit(ctx, func(ctx context.Context) error {
				j.watch(ctx, t, "inner")
				return errStop
			}))
			return drivertest.Exec(ctx, db, "a")
		})
	}, dbscope.OnHookError(func(_ context.Context, err error) { reported = err })))
	is(t, reported, errStop)
	equal(t, "hooks", j.take(), "outer before", "db before", "outer committed", "db committed", "inner undone")
	equal(t, "rows", f.Rows(), "a")
}

func TestAPanicPassesAfterRollbackHooksThatPanicThemselves(t *testing.T) {
	var reported error
	defer func() {
		if r := recover(); r != "the unit's" || reported == nil {
			t.Errorf("recovered %v, reported %v", r, reported)
		}
	}()
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, dbscope.AfterRollback(ctx, func(context.Context) error { panic("the hook's") }))
		ok(t, dbscope.AfterRollback(ctx, func(context.Context) error { return nil }))
		panic("the unit's")
	}, dbscope.OnHookError(func(_ context.Context, err error) { reported = err }))
}
