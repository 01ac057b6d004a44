package dbscope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

// adoption is a transaction of code that knows nothing of dbscope.
type adoption struct {
	*drivertest.Tx
	ctx   context.Context
	ended func(context.Context, bool) error
}

func adopt(t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) adoption {
	t.Helper()
	tx, err := f.BeginOther(t.Context())
	ok(t, err)
	ok(t, tx.Exec(t.Context(), "of its owner"))
	ctx, ended, err := db.Adopt(t.Context(), tx)
	ok(t, err)
	return adoption{tx, ctx, ended}
}

// commit is what an owner does at the end.
func (a adoption) commit() (own, ended error) {
	own = a.Commit(context.Background())
	return own, a.ended(context.Background(), own == nil)
}

// R15.
func TestWhatIsCalledInAnAdoptedTransactionJoinsIt(t *testing.T) {
	for _, commits := range []bool{true, false} {
		f, db := newFake(t)
		var j journal
		a := adopt(t, f, db)
		exec(a.ctx, t, db, "a")
		ok(t, db.Atomic(a.ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "b") }))
		is(t, db.Atomic(a.ctx, func(ctx context.Context) error {
			return errors.Join(drivertest.Exec(ctx, db, "undone"), errStop)
		}), errStop)
		ok(t, dbscope.Join(a.ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "c") }))
		tx, err := db.Session(a.ctx)
		ok(t, err)
		ok(t, tx.Exec(a.ctx, "d"))
		j.after(a.ctx, t, db)
		equal(t, "stored before the end", f.Rows())
		if commits {
			own, ended := a.commit()
			ok(t, errors.Join(own, ended))
			equal(t, "stored", f.Rows(), "of its owner", "a", "b", "c", "d")
			equal(t, "hooks", j.take(), "scope committed", "db committed")
		} else {
			ok(t, errors.Join(a.Rollback(t.Context()), a.ended(t.Context(), false)))
			equal(t, "stored", f.Rows())
			equal(t, "hooks", j.take(), "scope rolled back", "db rolled back")
		}
		is(t, drivertest.Exec(a.ctx, db, "late"), dbscope.ErrScopeEnded)
		if err := a.ended(t.Context(), true); err == nil {
			t.Error("the end can be reported twice")
		}
		for _, line := range f.Log() {
			if strings.Contains(line, "acquire") || strings.Contains(line, "release ") && !strings.Contains(line, "savepoint") {
				t.Errorf("a connection was taken: %v", f.Log())
			}
		}
	}
}

// after registers hooks for the ends.
func (j *journal) after(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
	t.Helper()
	ok(t, dbscope.AfterCommit(ctx, j.hook("scope committed")))
	ok(t, dbscope.AfterRollback(ctx, j.hook("scope rolled back")))
	ok(t, db.AfterCommit(ctx, j.hook("db committed")))
	ok(t, db.AfterRollback(ctx, j.hook("db rolled back")))
}

func TestWhereOnlyARollbackIsPossibleTheOwnerCannotCommit(t *testing.T) {
	for name, c := range map[string]struct {
		doom  func(*drivertest.Fake, adoption, *dbscope.DB[*drivertest.Tx])
		cause error
	}{
		"a statement that aborts": {func(f *drivertest.Fake, a adoption, db *dbscope.DB[*drivertest.Tx]) {
			f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
			is(t, drivertest.Exec(a.ctx, db, "a"), errBroken)
		}, errBroken},
		"a statement whose transaction is undone": {func(f *drivertest.Fake, a adoption, db *dbscope.DB[*drivertest.Tx]) {
			f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Undone})
			is(t, drivertest.Exec(a.ctx, db, "a"), errBroken)
		}, errBroken},
		"MarkRollback": {func(_ *drivertest.Fake, a adoption, _ *dbscope.DB[*drivertest.Tx]) {
			ok(t, dbscope.MarkRollback(a.ctx))
		}, dbscope.ErrRollbackOnly},
		"Join": {func(_ *drivertest.Fake, a adoption, db *dbscope.DB[*drivertest.Tx]) {
			_ = dbscope.Join(a.ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "half"), errStop) })
		}, errStop},
		"rows of which some are left": {func(f *drivertest.Fake, a adoption, db *dbscope.DB[*drivertest.Tx]) {
			tx, err := db.Session(a.ctx)
			ok(t, err)
			_, err = tx.Query(a.ctx, "rows")
			ok(t, err)
			ok(t, dbscope.MarkRollback(a.ctx))
		}, dbscope.ErrRollbackOnly},
	} {
		f, db := newFake(t)
		var j journal
		a := adopt(t, f, db)
		exec(a.ctx, t, db, "before")
		j.after(a.ctx, t, db)
		c.doom(f, a, db)
		later := drivertest.Exec(a.ctx, db, "later")
		err := a.Commit(t.Context())
		if err == nil {
			t.Errorf("%s: the owner's commit is a success", name)
		}
		ended := a.ended(t.Context(), true) // as an owner says that does not look
		for what, err := range map[string]error{"a statement": later, "ended": ended} {
			if !errors.Is(err, dbscope.ErrRolledBack) || !errors.Is(err, c.cause) {
				t.Errorf("%s: %s answers %v", name, what, err)
			}
		}
		equal(t, name+": stored", f.Rows())
		equal(t, name+": hooks", j.take(), "scope rolled back", "db rolled back")
	}
}

// An owner that goes back to a savepoint of its own would have the server take
// statements again, and commit half of the unit.
func TestAStatementThatAbortsOutsideOfBlocksCannotBeMadeGoodByASavepointOfTheOwner(t *testing.T) {
	f, db := newFake(t)
	a := adopt(t, f, db)
	exec(a.ctx, t, db, "half")
	f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
	is(t, drivertest.Exec(a.ctx, db, "a"), errBroken)
	if !slices.Contains(f.Log(), "prevent commit") {
		t.Errorf("the transaction was left as it was: %q", f.Log())
	}
	is(t, drivertest.Exec(a.ctx, db, "later"), dbscope.ErrRolledBack)
	ok(t, errors.Join(a.Rollback(t.Context()), a.ended(t.Context(), false)))
}

func TestWhereTheCommitCouldNotBePreventedNobodyKnowsWhatIsStored(t *testing.T) {
	for name, c := range map[string]struct {
		doom func(context.Context) error
		says error
	}{
		"doomed": {func(ctx context.Context) error { return errors.Join(dbscope.MarkRollback(ctx), errStop) }, errStop},
		"ended": {func(ctx context.Context) error {
			s, _ := dbscope.FromContext(ctx)
			return s.End(ctx)
		}, errBroken},
	} {
		for _, commits := range []bool{true, false} {
			f, db := newFake(t)
			var j journal
			a := adopt(t, f, db)
			exec(a.ctx, t, db, "a")
			j.after(a.ctx, t, db)
			f.Inject("prevent commit", drivertest.Fault{Err: errBroken, Fate: driver.Intact})
			is(t, c.doom(a.ctx), c.says)
			if commits {
				own, ended := a.commit()
				ok(t, own)
				equal(t, name+": stored", f.Rows(), "of its owner", "a")
				is(t, ended, dbscope.ErrCommitUnknown)
				if errors.Is(ended, dbscope.ErrRolledBack) {
					t.Errorf("%s: ended says %v of what is stored", name, ended)
				}
			} else {
				ok(t, errors.Join(a.Rollback(t.Context()), a.ended(t.Context(), false)))
			}
			for _, hook := range j.take() {
				if commits && (name == "doomed" || strings.Contains(hook, "committed")) {
					t.Errorf("%s: the hook %s ran", name, hook)
				}
			}
		}
	}
}

func TestAStatementThatCommitsTheOwnersTransactionIsTold(t *testing.T) {
	for _, commits := range []bool{true, false} {
		f, db := newFake(t)
		var j journal
		a := adopt(t, f, db)
		j.after(a.ctx, t, db)
		f.Inject("exec", drivertest.Fault{Err: fmt.Errorf("it has committed: %w", driver.ErrEnded), Fate: driver.Intact})
		is(t, drivertest.Exec(a.ctx, db, "CREATE TABLE"), driver.ErrEnded)
		if !slices.Contains(f.Log(), "prevent commit") {
			t.Errorf("the owner can go on: %q", f.Log())
		}
		is(t, a.ended(t.Context(), commits), dbscope.ErrCommitUnknown)
		equal(t, "hooks", j.take())
	}
}

func TestABlockThatIsUndoneLeavesTheOwnerFreeToCommit(t *testing.T) {
	f, db := newFake(t)
	a := adopt(t, f, db)
	is(t, db.Atomic(a.ctx, func(ctx context.Context) error {
		f.Inject("exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted})
		return drivertest.Exec(ctx, db, "a")
	}), errBroken)
	is(t, db.Atomic(a.ctx, func(ctx context.Context) error {
		return dbscope.Join(ctx, func(ctx context.Context) error { return errors.Join(drivertest.Exec(ctx, db, "half"), errStop) })
	}), errStop)
	exec(a.ctx, t, db, "b")
	own, ended := a.commit()
	ok(t, errors.Join(own, ended))
	equal(t, "stored", f.Rows(), "of its owner", "b")
}

func TestWhatOnlyTheOwnerMayDoIsRefusedByName(t *testing.T) {
	f, db := newFake(t)
	g, other := newFake(t)
	a := adopt(t, f, db)
	scope, _ := dbscope.FromContext(a.ctx)
	nothing := func(context.Context) error { t.Error("it ran"); return nil }
	for name, do := range map[string]func(context.Context) error{
		"BeforeCommit":    func(ctx context.Context) error { return dbscope.BeforeCommit(ctx, nothing) },
		"DB.BeforeCommit": func(ctx context.Context) error { return db.BeforeCommit(ctx, nothing) },
		"DB.Commit":       db.Commit,
		"DB.Rollback":     db.Rollback,
		"DB.Release":      db.Release,
		"Scope.Commit":    scope.Commit,
		"Scope.Rollback":  scope.Rollback,
		"a handle's commit": func(ctx context.Context) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			return tx.Commit(ctx)
		},
		"CommitOpen":   func(ctx context.Context) error { return db.Atomic(ctx, nothing, dbscope.CommitOpen) },
		"RollbackOpen": func(ctx context.Context) error { return db.Atomic(ctx, nothing, dbscope.RollbackOpen) },
		"ContinueOpen": func(ctx context.Context) error { return db.Atomic(ctx, nothing, dbscope.ContinueOpen) },
		"ReadOnly":     func(ctx context.Context) error { return db.Atomic(ctx, nothing, dbscope.ReadOnly()) },
	} {
		err := do(a.ctx)
		if !errors.Is(err, dbscope.ErrOpenTransaction) || name != "ReadOnly" && name != "ContinueOpen" && !strings.Contains(err.Error(), "other code") {
			t.Errorf("%s: %v", name, err)
		}
	}
	exec(a.ctx, t, db, "a")
	exec(a.ctx, t, other, "early")
	ok(t, other.Commit(a.ctx)) // another database has nothing to do with the owner's
	own, ended := a.commit()
	ok(t, errors.Join(own, ended))
	equal(t, "stored", append(f.Rows(), g.Rows()...), "of its owner", "a", "early")
}

func TestOtherDatabasesOfTheScopeEndAsTheOwnersTransactionDid(t *testing.T) {
	for _, commits := range []bool{true, false} {
		f, db := newFake(t)
		g, other := newFake(t)
		a := adopt(t, f, db)
		exec(a.ctx, t, db, "a")
		exec(a.ctx, t, other, "b")
		if commits {
			own, ended := a.commit()
			ok(t, errors.Join(own, ended))
			equal(t, "stored", g.Rows(), "b")
		} else {
			ok(t, errors.Join(a.Rollback(t.Context()), a.ended(t.Context(), false)))
			equal(t, "stored", g.Rows())
		}
	}
	// One that fails then is told, and so is what is stored already.
	f, db := newFake(t)
	g, other := newFake(t)
	var j journal
	a := adopt(t, f, db)
	j.after(a.ctx, t, db)
	exec(a.ctx, t, db, "a")
	exec(a.ctx, t, other, "b")
	g.Inject("commit", drivertest.Fault{Err: errBroken, Outcome: dbscope.RolledBack})
	own, ended := a.commit()
	ok(t, own)
	var failed *dbscope.CommitError
	if !errors.As(ended, &failed) || len(failed.Outcomes) != 2 || failed.Outcomes[0].State != dbscope.Committed {
		t.Errorf("ended says %v", ended)
	}
	equal(t, "hooks", j.take(), "db committed")
}

func TestAnOwnerWhoCommitsWhileTheScopeIsAtWorkIsToldThatNobodyKnows(t *testing.T) {
	for name, at := range map[string]func(f *drivertest.Fake, a adoption, db *dbscope.DB[*drivertest.Tx], end func()){
		"in a block": func(_ *drivertest.Fake, a adoption, db *dbscope.DB[*drivertest.Tx], end func()) {
			_ = db.Atomic(a.ctx, func(ctx context.Context) error { end(); return nil })
		},
		"in a statement": func(f *drivertest.Fake, a adoption, db *dbscope.DB[*drivertest.Tx], end func()) {
			entered, until := make(chan struct{}), make(chan struct{})
			f.Inject("exec", drivertest.Fault{Entered: entered, Until: until})
			var running sync.WaitGroup
			running.Go(func() { _ = drivertest.Exec(a.ctx, db, "running") })
			<-entered
			end()
			close(until)
			running.Wait()
		},
	} {
		f, db := newFake(t)
		var j journal
		a := adopt(t, f, db)
		j.after(a.ctx, t, db)
		at(f, a, db, func() { is(t, a.ended(t.Context(), true), dbscope.ErrCommitUnknown) })
		equal(t, name+": hooks", j.take())
	}
}

func TestAScopeThatIsEndedKeepsItsOwnerFromCommitting(t *testing.T) {
	for name, end := range map[string]func(context.Context) error{
		"End": func(ctx context.Context) error { s, _ := dbscope.FromContext(ctx); return s.End(ctx) },
		"Abort": func(ctx context.Context) error {
			s, _ := middleware.ScopeOf(ctx)
			return s.Abort(ctx, errStop)
		},
	} {
		f, db := newFake(t)
		a := adopt(t, f, db)
		exec(a.ctx, t, db, "half")
		ok(t, end(a.ctx))
		if a.Commit(t.Context()) == nil {
			t.Errorf("%s: the owner could commit", name)
		}
		is(t, a.ended(t.Context(), true), dbscope.ErrRolledBack)
		equal(t, "stored", f.Rows())
	}
}

func TestAdoptRefusesWhatItCannotDo(t *testing.T) {
	f, db := newFake(t, dbscope.BeforeEachCommit(func(context.Context) error { return nil }))
	tx, err := f.BeginOther(t.Context())
	ok(t, err)
	if _, _, err := db.Adopt(t.Context(), tx); err == nil || !strings.Contains(err.Error(), "BeforeEachCommit") {
		t.Errorf("with BeforeEachCommit: %v", err)
	}
	_, db = newFake(t)
	if _, _, err := db.Adopt(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Adopt") {
		t.Errorf("nil: %v", err)
	}
}

func TestAnOwnerWhoNeverReportsTheEndIsTold(t *testing.T) {
	var log lockedBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	f, db := newFake(t)
	var kept []context.Context // a goroutine may have it still
	forget := func(report bool) {
		a := adopt(t, f, db)
		kept = append(kept, a.ctx)
		exec(a.ctx, t, db, "a")
		ok(t, a.Commit(t.Context()))
		if report {
			ok(t, a.ended(t.Context(), true))
		}
	}
	forget(true)
	for range 3 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if log.String() != "" {
		t.Errorf("one that was reported: %s", log.String())
	}
	forget(false)
	drivertest.Eventually(t, "the log tells of it", func() bool {
		runtime.GC()
		return strings.Contains(log.String(), "never reported as ended")
	})
	runtime.KeepAlive(kept)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAdoptedTransactionsSideBySideWithTheirEndsNeverLieAboutWhatIsStored(t *testing.T) {
	for range races() / 3 {
		f, db := newFake(t)
		a := adopt(t, f, db)
		var doomed error
		sideBySide(func() { doomed = dbscope.MarkRollback(a.ctx) }, func() {
			_ = db.Atomic(a.ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") })
		})
		ok(t, doomed)
		own, ended := a.commit()
		if own == nil {
			t.Fatal("the owner could commit")
		}
		ok(t, ended) // it was reported as not committed
		equal(t, "stored", f.Rows())
	}
}

func TestAnAdoptedTransactionHasTheSettingsOfTheDB(t *testing.T) {
	var answer error
	f, db := newFake(t, dbscope.Settings(func(context.Context) ([]dbscope.Setting, error) {
		return []dbscope.Setting{{Name: "app.tenant", Value: "a"}}, answer
	}))
	a := adopt(t, f, db)
	tx, err := db.Session(a.ctx)
	ok(t, err)
	value, err := tx.Setting(a.ctx, "app.tenant")
	if ok(t, err); value != "a" {
		t.Errorf("the setting is %q", value)
	}
	own, ended := a.commit()
	ok(t, errors.Join(own, ended))

	answer = errStop // there is no tenant
	other, err := f.BeginOther(t.Context())
	ok(t, err)
	_, _, err = db.Adopt(t.Context(), other)
	is(t, err, errStop)
	ok(t, other.Exec(t.Context(), "of its owner"))
	ok(t, other.Commit(t.Context())) // it is as it was
	equal(t, "stored", f.Rows(), "of its owner", "of its owner")
}
