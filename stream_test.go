package dbscope_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

// begun is a scope whose answer has begun to leave.
func begun(t *testing.T, opts ...dbscope.Option) (context.Context, middleware.Scope) {
	ctx, scope := begin(t.Context(), opts...)
	t.Cleanup(func() { ok(t, scope.End(ctx)) })
	ok(t, scope.Stream(ctx, true))
	return ctx, scope
}

func wantOpen(t *testing.T, f *drivertest.Fake, want int) {
	t.Helper()
	if n := f.Open(); n != want {
		t.Fatalf("%d connections are out of the pool, want %d", n, want)
	}
}

func query(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) *drivertest.Rows {
	t.Helper()
	tx, err := db.Session(ctx)
	ok(t, err)
	rows, err := tx.Query(ctx, "all")
	ok(t, err)
	return rows
}

func TestAScopeThatStreamsKeepsNoConnectionOfATransactionThatEndedEarly(t *testing.T) {
	for name, end := range map[string]func(*dbscope.DB[*drivertest.Tx], context.Context) error{
		"Commit":   (*dbscope.DB[*drivertest.Tx]).Commit,
		"Rollback": (*dbscope.DB[*drivertest.Tx]).Rollback,
		"the handle's commit": func(db *dbscope.DB[*drivertest.Tx], ctx context.Context) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			return tx.Commit(ctx)
		},
		"an Atomic block": func(db *dbscope.DB[*drivertest.Tx], ctx context.Context) error {
			return db.Atomic(ctx, func(context.Context) error { return nil }, dbscope.CommitOpen)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t)
			ctx, _ := begun(t)
			for range 2 {
				exec(ctx, t, db, "row")
				wantOpen(t, f, 1)
				ok(t, end(db, ctx))
				wantOpen(t, f, 0)
			}
		})
	}
}

func TestAScopeThatBeginsToStreamGivesUpTheConnectionOfAnEarlierTransaction(t *testing.T) {
	for name, then := range map[string]func(context.Context, *dbscope.DB[*drivertest.Tx]){
		"nothing": func(context.Context, *dbscope.DB[*drivertest.Tx]) {},
		"the next handle was taken": func(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) {
			_, err := db.Session(ctx)
			ok(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, db := newFake(t)
			ctx, scope := begin(t.Context())
			exec(ctx, t, db, "early")
			ok(t, db.Commit(ctx))
			then(ctx, db)
			wantOpen(t, f, 1)
			ok(t, scope.Stream(ctx, true))
			wantOpen(t, f, 0)
			exec(ctx, t, db, "late")
			ok(t, scope.Commit(ctx))
			ok(t, scope.End(ctx))
			equal(t, "rows", f.Rows(), "early", "late")
		})
	}
}

func TestAWritingScopeThatStreamsKeepsItsOpenTransaction(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := begun(t)
	exec(ctx, t, db, "row")
	ok(t, scope.Stream(ctx, true))
	wantOpen(t, f, 1)
	equal(t, "rows", f.Rows())
}

func TestAReadOnlyScopeThatStreamsKeepsAConnectionOnlyWhileSomethingIsOpen(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := begun(t, dbscope.ReadOnly())
	for range 2 {
		rows := query(ctx, t, db)
		ok(t, scope.Stream(ctx, true))
		wantOpen(t, f, 1)
		if _, err := rows.Next(); err == nil {
			t.Error("there is a row")
		}
		ok(t, rows.Close())
		wantOpen(t, f, 1)
		ok(t, scope.Stream(ctx, true))
		wantOpen(t, f, 0)
	}
	exec(ctx, t, db, "read")
	ok(t, scope.Stream(ctx, false))
	wantOpen(t, f, 0)
	if log := f.Log(); log[len(log)-2] != "rollback" {
		t.Errorf("the last transaction ended otherwise than by a rollback: %v", log)
	}
}

func TestANestedTransactionOfAReadOnlyScopeThatStreamsIsLeftAlone(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := begun(t, dbscope.ReadOnly())
	tx, err := drivertest.Begin(ctx, db)
	ok(t, err)
	ok(t, tx.Exec(ctx, "read"))
	ok(t, scope.Stream(ctx, true))
	ok(t, tx.Exec(ctx, "read on"))
	ok(t, tx.Commit(ctx))
	ok(t, scope.Stream(ctx, true))
	wantOpen(t, f, 0)
	ok(t, db.Atomic(ctx, func(ctx context.Context) error {
		exec(ctx, t, db, "read")
		ok(t, scope.Stream(ctx, true))
		exec(ctx, t, db, "read on")
		return nil
	}))
	ok(t, scope.Stream(ctx, true))
	wantOpen(t, f, 0)
}

// What still runs is not disturbed by a part of the answer that is sent meanwhile.
func TestAStatementOfAReadOnlyScopeThatStreamsIsLeftAlone(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := begun(t, dbscope.ReadOnly())
	entered, release := make(chan struct{}), make(chan struct{})
	f.Inject("exec", drivertest.Fault{Entered: entered, Until: release})
	var reader sync.WaitGroup
	reader.Go(func() {
		if err := drivertest.Exec(ctx, db, "read"); err != nil {
			t.Error(err)
		}
	})
	<-entered
	ok(t, scope.Stream(ctx, true))
	close(release)
	reader.Wait()
	ok(t, scope.Stream(ctx, true))
	wantOpen(t, f, 0)
}

// A producer of rows begins while the first bytes leave: whatever comes first,
// both succeed.
func TestAReadOnlyScopeBeginsToStreamBesideItsFirstQuery(t *testing.T) {
	_, db := newFake(t)
	for range 500 {
		ctx, scope := begin(t.Context(), dbscope.ReadOnly())
		var producer sync.WaitGroup
		producer.Go(func() {
			tx, err := db.Session(ctx)
			if err == nil {
				var rows *drivertest.Rows
				if rows, err = tx.Query(ctx, "all"); err == nil {
					err = rows.Close()
				}
			}
			if err != nil {
				t.Errorf("the producer: %v", err)
			}
		})
		if err := scope.Stream(ctx, true); err != nil {
			t.Errorf("Stream returned %v", err)
		}
		producer.Wait()
		ok(t, scope.End(ctx))
	}
}

func TestHooksOfAReadOnlyScopeThatStreamsRunWhenWhatTheyWaitForEnds(t *testing.T) {
	_, db := newFake(t)
	ctx, scope := begin(t.Context(), dbscope.ReadOnly())
	var ran []string
	hook := func(name string) func(context.Context) error {
		return func(context.Context) error { ran = append(ran, name); return nil }
	}
	ok(t, dbscope.AfterCommit(ctx, hook("after the scope")))
	ok(t, db.BeforeCommit(ctx, hook("before the transaction")))
	ok(t, db.AfterCommit(ctx, hook("after the transaction")))
	exec(ctx, t, db, "read")
	ok(t, scope.Stream(ctx, true))
	equal(t, "hooks", ran, "before the transaction", "after the transaction")
	ok(t, scope.Commit(ctx))
	ok(t, scope.End(ctx))
	equal(t, "hooks", ran, "before the transaction", "after the transaction", "after the scope")
}

func TestWhatKeepsATransactionOfAReadOnlyScopeThatStreamsFromItsEndIsAnError(t *testing.T) {
	f, db := newFake(t)
	ctx, scope := begun(t, dbscope.ReadOnly(), dbscope.Isolation(sql.LevelRepeatableRead))
	f.Inject("exec", drivertest.Fault{Err: errStop, Fate: driver.Aborted})
	is(t, drivertest.Exec(ctx, db, "read"), errStop)
	is(t, scope.Stream(ctx, true), dbscope.ErrRolledBack)
	wantOpen(t, f, 0)
	ok(t, scope.Stream(ctx, true))
}
