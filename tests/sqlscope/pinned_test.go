package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/scopetest"
)

// mark changes a setting of a connection, and marked tells whether it has been.
func (d *opened) mark(ctx context.Context, on execer) error {
	text := "PRAGMA cache_size = -77"
	switch {
	case d.postgres:
		text = "SET application_name = 'mine'"
	case d.ofMySQL:
		text = "SET @mine = 1"
	}
	_, err := on.ExecContext(ctx, text)
	return err
}

type rower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (d *opened) marked(ctx context.Context, t *testing.T, on rower) bool {
	t.Helper()
	text := "SELECT cache_size = -77 FROM pragma_cache_size"
	switch {
	case d.postgres:
		text = "SELECT CAST(current_setting('application_name') = 'mine' AS INTEGER)"
	case d.ofMySQL:
		text = "SELECT coalesce(@mine = 1, 0)"
	}
	var is int
	ok(t, on.QueryRowContext(ctx, text).Scan(&is))
	return is == 1
}

// pin marks a *sql.Conn outside of a scope, and then keeps others busy on what other
// connection there is.
func (d *opened) pin(t *testing.T) (pinned *sql.Conn, free func()) {
	t.Helper()
	pinned, err := d.SQL().Conn(t.Context())
	ok(t, err)
	ok(t, d.mark(t.Context(), pinned))
	busy, err := d.QueryContext(t.Context(), "SELECT 1 UNION ALL SELECT 2")
	ok(t, err)
	return pinned, func() {
		ok(t, pinned.Close())
		scan(t, busy)
		if n := d.inUse(t); n != 0 {
			t.Errorf("%d connections are in use", n)
		}
	}
}

func TestASqlConnOutsideOfAScopeIsOneConnectionUntilItIsClosed(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		unused, err := d.SQL().Conn(t.Context())
		ok(t, err)
		if n := d.inUse(t); n != 0 {
			t.Errorf("%d connections are in use before the first statement", n)
		}
		ok(t, unused.Close())
		pinned, free := d.pin(t)
		defer free()
		if !d.marked(t.Context(), t, pinned) {
			t.Error("what it has set is lost with the next statement")
		}
		if n := d.inUse(t); n != 2 {
			t.Errorf("%d connections are in use, for one and for open rows", n)
		}
		stmt, err := pinned.PrepareContext(t.Context(), "INSERT INTO t (id) VALUES ($1)")
		ok(t, err)
		_, err = stmt.ExecContext(t.Context(), 1)
		ok(t, err)
		ok(t, stmt.Close())
		if insert(t.Context(), pinned, 1) == nil {
			t.Error("a duplicate was stored")
		}
		ok(t, insert(t.Context(), pinned, 2))
		if !d.marked(t.Context(), t, pinned) {
			t.Error("what it has set is lost after a failed statement")
		}
		want(t, "stored by each statement itself", d.stored(t), 1, 2)
	}, dbscope.AllowUnscoped())
}

// As tools for migrations do it.
func TestAnAdvisoryLockOfASqlConnHolds(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		lock, unlock := "SELECT CAST(pg_try_advisory_lock(7) AS INTEGER)", "SELECT CAST(pg_advisory_unlock(7) AS INTEGER)"
		switch {
		case d.ofMySQL:
			lock, unlock = "SELECT get_lock('migrations', 0)", "SELECT release_lock('migrations')"
		case !d.postgres:
			t.Skip("it has none")
		}
		ask := func(on rower, text string) (got int) {
			t.Helper()
			ok(t, on.QueryRowContext(t.Context(), text).Scan(&got))
			return got
		}
		pinned, free := d.pin(t)
		defer free()
		prepared, err := pinned.PrepareContext(t.Context(), lock) // the first thing that it does may be a prepared one
		ok(t, err)
		var got int
		ok(t, prepared.QueryRowContext(t.Context()).Scan(&got))
		ok(t, prepared.Close())
		want(t, "the first", []int{got}, 1)
		want(t, "the second, beside the first", []int{ask(d, lock)}, 0)
		want(t, "unlocked", []int{ask(pinned, unlock)}, 1)
		want(t, "and then", []int{ask(pinned, lock)}, 1)
		want(t, "unlocked", []int{ask(pinned, unlock)}, 1)
	}, dbscope.AllowUnscoped())
}

// A statement that was prepared on it runs on it, also as the first thing that is done.
func TestAStatementPreparedOnASqlConnRunsOnIt(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.ofMySQL {
			t.Skip("its SET cannot be prepared by every driver")
		}
		pinned, err := d.SQL().Conn(t.Context())
		ok(t, err)
		set, err := pinned.PrepareContext(t.Context(), "SET @mine = 1")
		ok(t, err)
		_, err = set.ExecContext(t.Context())
		ok(t, err)
		busy, err := d.QueryContext(t.Context(), "SELECT 1 UNION ALL SELECT 2")
		ok(t, err)
		if !d.marked(t.Context(), t, pinned) {
			t.Error("it has run elsewhere")
		}
		ok(t, errors.Join(busy.Close(), set.Close(), pinned.Close()))
	}, dbscope.AllowUnscoped())
}

func TestATransactionOfASqlConnOutsideOfAScopeIsOnItsConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		pinned, free := d.pin(t)
		defer free()
		for i, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback, (*sql.Tx).Commit} {
			tx, err := pinned.BeginTx(t.Context(), nil)
			ok(t, err)
			if !d.marked(t.Context(), t, tx) {
				t.Error("it is on another connection")
			}
			ok(t, insert(t.Context(), tx, 10*i))
			ok(t, insert(t.Context(), pinned, 10*i+1)) // as without dbscope
			ok(t, end(tx))
			if !d.marked(t.Context(), t, pinned) {
				t.Error("the connection is another one after it")
			}
			ok(t, insert(t.Context(), pinned, 10*i+2))
			if insert(t.Context(), pinned, 10*i+2) == nil {
				t.Error("a duplicate was stored")
			}
			ok(t, insert(t.Context(), pinned, 10*i+3)) // the failure was of a statement on its own
		}
		if tx, err := pinned.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelLinearizable}); err == nil {
			ok(t, tx.Rollback())
			if d.driver != "sqlite" { // whose driver looks at no option
				t.Error("an isolation level that there is not was taken")
			}
		}
		if !d.marked(t.Context(), t, pinned) {
			t.Error("the connection is another one after a BEGIN that was refused")
		}
		want(t, "stored", d.stored(t), 0, 1, 2, 3, 12, 13, 20, 21, 22, 23)
	}, dbscope.AllowUnscoped())
}

func TestASqlConnThatBeginsWithATransactionKeepsItsConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		pinned, err := d.SQL().Conn(t.Context())
		ok(t, err)
		tx, err := pinned.BeginTx(t.Context(), nil)
		ok(t, err)
		ok(t, d.mark(t.Context(), tx))
		ok(t, tx.Commit())
		busy, err := d.QueryContext(t.Context(), "SELECT 1 UNION ALL SELECT 2")
		ok(t, err)
		if !d.marked(t.Context(), t, pinned) {
			t.Error("what it has set is lost with the transaction")
		}
		ok(t, errors.Join(busy.Close(), pinned.Close()))
	}, dbscope.AllowUnscoped())
}

func TestASqlConnDoesNotMixAScopeWithWhatIsOutside(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		pinned, free := d.pin(t)
		defer free()
		for i, end := range []error{nil, errStop} {
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				if d.marked(ctx, t, pinned) {
					t.Error("the scope runs on the connection that was kept outside of it")
				}
				if !d.marked(t.Context(), t, pinned) {
					t.Error("the connection is another one after a statement in a scope")
				}
				tx, err := pinned.BeginTx(ctx, nil)
				ok(t, err)
				ok(t, insert(ctx, tx, 10*i))
				ok(t, tx.Commit())
				ok(t, insert(ctx, pinned, 10*i+1))
				want(t, "seen in the scope", ids(ctx, t, pinned), append(d.stored(t), 10*i, 10*i+1)...)
				want(t, "seen outside", ids(t.Context(), t, pinned), d.stored(t)...)
				return end
			}), end)
		}
		want(t, "stored", d.stored(t), 0, 1)
		// The other way around: it was taken in a scope.
		var taken *sql.Conn
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) (err error) {
			taken, err = d.SQL().Conn(ctx)
			ok(t, err)
			ok(t, insert(ctx, taken, 2))
			want(t, "seen outside", ids(t.Context(), t, taken), 0, 1)
			ok(t, d.mark(t.Context(), taken))
			if d.marked(ctx, t, taken) {
				t.Error("the scope runs on the connection that was kept outside of it")
			}
			return err
		}))
		if !d.marked(t.Context(), t, taken) {
			t.Error("what it has set outside is lost with the scope")
		}
		ok(t, taken.Close())
		want(t, "stored", d.stored(t), 0, 1, 2)
	}, dbscope.AllowUnscoped())
}

func ids(ctx context.Context, t *testing.T, in querier) []int {
	t.Helper()
	rows, err := in.QueryContext(ctx, "SELECT id FROM t ORDER BY id")
	ok(t, err)
	return scan(t, rows)
}

func TestRowsThatASqlConnHasOpenRefuseOthersOnItsConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		pinned, free := d.pin(t)
		defer free()
		rows, err := pinned.QueryContext(t.Context(), "SELECT 1 UNION ALL SELECT 2")
		ok(t, err)
		is(t, insert(t.Context(), pinned, 1), dbscope.ErrSessionBusy)
		_, err = pinned.BeginTx(t.Context(), nil)
		is(t, err, dbscope.ErrSessionBusy)
		want(t, "read", scan(t, rows), 1, 2)
		ok(t, insert(t.Context(), pinned, 1))
		if !d.marked(t.Context(), t, pinned) {
			t.Error("the connection is another one after it")
		}
	}, dbscope.AllowUnscoped())
}

// A lock that is lost with its connection must not seem to hold on another one.
func TestASqlConnWhoseConnectionIsLostTakesNoOther(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if d.driver == "sqlite" {
			t.Skip("nobody can end its connections")
		}
		for name, kill := range map[string]func(*sql.Conn){
			"between two statements": func(*sql.Conn) {},
			"in a transaction": func(c *sql.Conn) {
				tx, err := c.BeginTx(t.Context(), nil)
				ok(t, err)
				ok(t, d.killAll(t))
				if insert(t.Context(), tx, 9) == nil {
					t.Errorf("the transaction goes on")
				}
				_ = tx.Rollback()
			},
		} {
			pinned, err := d.SQL().Conn(t.Context())
			ok(t, err)
			ok(t, d.mark(t.Context(), pinned))
			kill(pinned)
			ok(t, d.killAll(t))
			for range 3 {
				if err := insert(t.Context(), pinned, 1); err == nil {
					t.Errorf("%s: the connection was replaced", name)
				}
			}
			if _, err := pinned.BeginTx(t.Context(), nil); err == nil {
				t.Errorf("%s: the connection was replaced for a transaction", name)
			}
			ok(t, pinned.Close())
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) }))
			_, err = d.other.Exec("DELETE FROM t")
			ok(t, err)
		}
	}, dbscope.AllowUnscoped())
}

// killAll ends all other sessions of the test's database.
func (d *opened) killAll(t *testing.T) error {
	t.Helper()
	switch {
	case d.postgres:
		_, err := d.other.Exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity " +
			"WHERE datname = current_database() AND pid <> pg_backend_pid()")
		return err
	case d.ofMySQL:
		rows, err := d.other.Query("SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()")
		ok(t, err)
		for _, id := range scan(t, rows) {
			_ = d.kill(id) // which fails where it has just ended by itself
		}
	}
	return nil
}

func TestASqlConnThatCouldNotBeOpenedMayBeAgain(t *testing.T) {
	var fail bool
	onEach(t, func(t *testing.T, d *opened) {
		pinned, err := d.SQL().Conn(t.Context())
		ok(t, err)
		fail = true
		is(t, d.mark(t.Context(), pinned), errStop)
		_, err = pinned.BeginTx(t.Context(), nil)
		is(t, err, errStop)
		fail = false
		ok(t, d.mark(t.Context(), pinned))
		fail = true // it has its connection
		if !d.marked(t.Context(), t, pinned) {
			t.Error("what it has set is lost")
		}
		ok(t, pinned.Close())
		if n := d.inUse(t); n != 0 {
			t.Errorf("%d connections are in use", n)
		}
	}, dbscope.AllowUnscoped(), dbscope.BeforeSession(func(context.Context) error {
		if fail {
			return errStop
		}
		return nil
	}))
}

func TestConnectionsOfSqlConnsAreResetWhereTheDBAsksForIt(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		pinned, free := d.pin(t)
		if !d.marked(t.Context(), t, pinned) {
			t.Error("it was reset before it was closed")
		}
		free()
		if d.marked(t.Context(), t, d) {
			t.Error("it was not reset")
		}
	}, dbscope.AllowUnscoped(), dbscope.ResetConnections())
}

func TestASqlConnOfAFixtureIsInTheTestsTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		t.Run("a test", func(t *testing.T) {
			var db dbscope.Database
			switch s := d.scoped.(type) {
			case overSQL:
				db = s.DB
			case overPgx:
				db = s.DB
			}
			ctx := scopetest.Rollback(t, db)
			fixture := scopetest.Fixture(ctx)
			pinned, err := d.SQL().Conn(fixture)
			ok(t, err)
			ok(t, insert(fixture, pinned, 1))
			tx, err := pinned.BeginTx(fixture, nil)
			ok(t, err)
			ok(t, insert(fixture, tx, 2))
			ok(t, tx.Commit())
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				want(t, "seen in a unit", ids(ctx, t, pinned), 1, 2)
				return nil
			}))
			want(t, "seen by a fixture", ids(fixture, t, pinned), 1, 2)
			ok(t, pinned.Close())
		})
		want(t, "stored", d.stored(t))
	})
}

func TestManySqlConnsAreEachOneConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		const many = 3 // and one connection more, of which a small pool of pgx has four
		var all, wg sync.WaitGroup
		all.Add(many)
		for i := range many {
			wg.Go(func() {
				pinned, err := d.SQL().Conn(t.Context())
				ok(t, err)
				defer func() { ok(t, pinned.Close()) }()
				if i%2 == 0 {
					ok(t, d.mark(t.Context(), pinned))
				}
				all.Done()
				for range 20 {
					if d.marked(t.Context(), t, pinned) != (i%2 == 0) && i%2 == 0 {
						t.Error("it is another connection")
					}
					if d.native || d.driver != "sqlite" { // which has one writer
						ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return pinned.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) }))
					}
				}
				all.Wait()
			})
		}
		wg.Wait()
		if n := d.inUse(t); n != 0 {
			t.Errorf("%d connections are in use", n)
		}
	}, dbscope.AllowUnscoped())
}
