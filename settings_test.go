package dbscope_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

type nameKey struct{}

func named(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, nameKey{}, name)
}

// ofName is a setting that the context names.
func ofName(ctx context.Context) ([]dbscope.Setting, error) {
	name, _ := ctx.Value(nameKey{}).(string)
	if name == "" {
		return nil, errStop
	}
	return []dbscope.Setting{{Name: "name", Value: name}}, nil
}

func TestSettingsAreMadeBetweenBeginAndTheStatement(t *testing.T) {
	f, db := newFake(t, dbscope.Settings(ofName), dbscope.BeforeSession(func(context.Context) error { return nil }))
	ok(t, dbscope.Run(named(t.Context(), "a"), func(ctx context.Context) error {
		exec(ctx, t, db, "1", "2")
		ok(t, db.Commit(ctx))
		exec(named(ctx, "b"), t, db, "3") // as whoever opens it
		tx, err := drivertest.Begin(ctx, db)
		ok(t, err)
		ok(t, tx.Rollback(ctx))
		return nil
	}))
	equal(t, "calls", f.Log(), "open", "acquire", "begin", "set name=a", "exec 1", "exec 2", "commit",
		"begin", "set name=b", "exec 3", "savepoint dbscope_1", "rollback to dbscope_1", "commit", "release")
}

func TestATransactionThatBeginsAnewAsksForItsSettingsAnew(t *testing.T) {
	f, db := newFake(t, dbscope.Settings(ofName))
	ok(t, dbscope.Run(named(t.Context(), "a"), func(ctx context.Context) error {
		is(t, db.Atomic(ctx, func(ctx context.Context) error { exec(ctx, t, db, "1"); return errBroken }), errBroken)
		tx, err := drivertest.Begin(ctx, db) // of a transaction in which nothing was done
		ok(t, err)
		exec(ctx, t, db, "2")
		ok(t, tx.Rollback(ctx))
		exec(ctx, t, db, "3")
		return db.AfterCommit(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "4") })
	}))
	begun := 0
	for i, line := range f.Log() {
		if line == "begin" {
			begun++
			equal(t, "after begin", f.Log()[i+1:i+2], "set name=a")
		}
	}
	if begun != 4 {
		t.Errorf("%d transactions were begun", begun)
	}
	equal(t, "stored", f.Rows(), "3", "4")
}

func TestAnErrorOfSettingsTakesNoConnectionAndDoomsWhatTheStatementWasPartOf(t *testing.T) {
	f, db := newFake(t, dbscope.Settings(ofName), dbscope.BeforeSession(func(context.Context) error {
		t.Error("BeforeSession was called")
		return nil
	}))
	g, other := newFake(t)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, other, "1")
		err := drivertest.Exec(ctx, db, "1")
		is(t, err, errStop)
		if !strings.HasPrefix(err.Error(), "dbscope: fake: ") {
			t.Errorf("the error does not name the DB: %v", err)
		}
		is(t, drivertest.Exec(named(ctx, "a"), db, "2"), dbscope.ErrRolledBack)
		return nil
	})
	is(t, err, dbscope.ErrRolledBack)
	equal(t, "calls", f.Log())
	equal(t, "stored in the other database", g.Rows())

	h, db := newFake(t, dbscope.Settings(ofName))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		is(t, db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "1") }), errStop)
		exec(named(ctx, "a"), t, db, "2")
		return nil
	}))
	equal(t, "stored", h.Rows(), "2")
}

// Settings are a copy: another unit may get the same slice.
func TestWhatSettingsReturnsMayBeUsedAgain(t *testing.T) {
	var mu sync.Mutex
	shared := make([]dbscope.Setting, 1)
	f, db := newFake(t, dbscope.Settings(func(ctx context.Context) ([]dbscope.Setting, error) {
		mu.Lock()
		defer mu.Unlock()
		shared[0] = dbscope.Setting{Name: "name", Value: ctx.Value(nameKey{}).(string)}
		return shared, nil
	}))
	f.Inject("begin", drivertest.Fault{Err: errBroken, Fate: driver.Lost}) // so that they are made later
	ok(t, dbscope.Run(named(t.Context(), "a"), func(ctx context.Context) error {
		return db.Detached(named(ctx, "b"), func(inner context.Context, _ *drivertest.Tx) error {
			exec(inner, t, db, "1")
			exec(ctx, t, db, "2")
			return nil
		})
	}))
	equal(t, "stored", f.Rows(), "1", "2")
}

func TestASettingThatIsRefusedUndoesTheTransaction(t *testing.T) {
	for _, undo := range []error{nil, errBroken} {
		f, db := newFake(t, dbscope.Settings(ofName))
		f.Inject("set", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
		f.Inject("rollback", drivertest.Fault{Err: undo})
		err := dbscope.Run(named(t.Context(), "a"), func(ctx context.Context) error {
			is(t, drivertest.Exec(ctx, db, "1"), errStop)
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		left := "release"
		if undo != nil {
			left = "discard"
		}
		equal(t, "calls", f.Log(), "open", "acquire", "begin", "set name=a", "rollback", left)
	}
}

// mute is an adapter from before settings: its connections can make none.
type mute struct{ driver.Adapter[*drivertest.Tx] }

type muteEngine struct{ driver.Engine }

type muteConn struct{ driver.Conn }

func (muteConn) Begin(context.Context, driver.TxOptions) error { panic("it was begun") }

func (e muteEngine) Acquire(ctx context.Context) (driver.Conn, error) {
	c, err := e.Engine.Acquire(ctx)
	return muteConn{c}, err
}

func (m mute) Open(ctx context.Context, host string) (driver.Engine, error) {
	e, err := m.Adapter.Open(ctx, host)
	return muteEngine{e}, err
}

func TestADatabaseWithoutSettingsRefusesThemByName(t *testing.T) {
	f := drivertest.NewFake()
	idleConns(t, f)
	g := drivertest.NewFake()
	g.NoSettings()
	idleConns(t, g)
	for name, db := range map[string]*dbscope.DB[*drivertest.Tx]{
		"an adapter that has none": dbscope.New(mute{f.Adapter()}, dbscope.Settings(ofName)),
		"a database that has none": g.DB(dbscope.Settings(ofName)),
	} {
		err := dbscope.Run(named(t.Context(), "a"), func(ctx context.Context) error {
			err := drivertest.Exec(ctx, db, "1")
			if err == nil || !strings.Contains(err.Error(), "the option Settings") {
				t.Errorf("%s: the error is %v", name, err)
			}
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
	}
	equal(t, "stored", append(f.Rows(), g.Rows()...))
}

func TestAStatementOnItsOwnDoesNotRunWithoutSettings(t *testing.T) {
	f, db := newFake(t, dbscope.Settings(ofName), dbscope.AllowUnscoped())
	ctx := named(t.Context(), "a")
	is(t, drivertest.Exec(ctx, db, "1"), dbscope.ErrNoScope)
	equal(t, "calls", f.Log())
	tx, err := drivertest.Begin(ctx, db)
	ok(t, err)
	ok(t, errors.Join(tx.Exec(ctx, "2"), tx.Commit(ctx)))
	_, err = drivertest.Begin(t.Context(), db)
	is(t, err, errStop)
	equal(t, "stored", f.Rows(), "2")
	ok(t, db.PurgeLedger(t.Context(), 0)) // which is dbscope's own
}
