package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/dbscope/dbscope"
)

// state is something that a unit can leave on its connection.
type state struct {
	leave []string // statements
	look  string   // a query of one value, which shows it
}

// states are those of a database.
func (d database) states() map[string]state {
	switch {
	case d.postgres:
		return map[string]state{
			"a setting":              {[]string{"SET work_mem = '77MB'"}, "SHOW work_mem"},
			"read-only transactions": {[]string{"SET default_transaction_read_only = on"}, "SHOW default_transaction_read_only"},
			"a search path":          {[]string{"CREATE SCHEMA IF NOT EXISTS elsewhere", "SET search_path = elsewhere, pg_catalog"}, "SHOW search_path"},
			"a role":                 {[]string{"SET ROLE pg_monitor"}, "SELECT current_user"},
			"another user":           {[]string{"SET SESSION AUTHORIZATION pg_monitor"}, "SELECT session_user"},
			"a temporary table":      {[]string{"CREATE TEMP TABLE leaked (id INT)"}, "SELECT to_regclass('pg_temp.leaked')::text"},
			"a listener":             {[]string{"LISTEN leaked"}, "SELECT count(*) FROM pg_listening_channels()"},
			"an advisory lock":       {[]string{"SELECT pg_advisory_lock(42)"}, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"},
			"a prepared statement":   {[]string{"PREPARE leaked AS SELECT 1"}, "SELECT count(*) FROM pg_prepared_statements WHERE name = 'leaked'"},
			"one with an odd name":   {[]string{`PREPARE "leaked; "" it's" AS SELECT 1`}, "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'leaked%'"},
			"a cursor":               {[]string{"DECLARE leaked CURSOR WITH HOLD FOR SELECT 1"}, "SELECT count(*) FROM pg_cursors WHERE name = 'leaked'"},
			"a sequence's last value": {
				[]string{"CREATE SEQUENCE IF NOT EXISTS numbers", "SELECT setval('numbers', 1)", "SELECT nextval('numbers')"},
				"SELECT lastval()",
			},
		}
	case d.ofMySQL:
		return map[string]state{
			"a setting":             {[]string{"SET SESSION sql_mode = 'ANSI'"}, "SELECT @@sql_mode"},
			"a variable":            {[]string{"SET @leaked = 1"}, "SELECT @leaked"},
			"a temporary table":     {[]string{"CREATE TEMPORARY TABLE leaked (id INT)"}, "SELECT count(*) FROM leaked"},
			"a lock":                {[]string{"SELECT GET_LOCK('leaked', 0)"}, "SELECT IS_USED_LOCK('leaked') IS NULL"},
			"a prepared statement":  {[]string{"PREPARE leaked FROM 'SELECT 1'"}, "EXECUTE leaked"},
			"an isolation level":    {[]string{"SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"}, d.isolationVariable()},
			"an identity, inserted": {[]string{"SET SESSION insert_id = 77"}, "SELECT @@insert_id"},
		}
	}
	return map[string]state{
		"a setting":            {[]string{"PRAGMA cache_size = 77"}, "PRAGMA cache_size"},
		"an attached database": {[]string{"ATTACH ':memory:' AS leaked"}, "SELECT count(*) FROM pragma_database_list WHERE name = 'leaked'"},
		"a temporary table":    {[]string{"CREATE TEMP TABLE leaked (id INT)"}, "SELECT count(*) FROM sqlite_temp_master"},
	}
}

// isolationVariable asks for the session's isolation level.
func (d database) isolationVariable() string {
	if d.mysql {
		return "SELECT @@transaction_isolation"
	}
	return "SELECT @@tx_isolation"
}

// durable is a state of the database that a rollback does not take back.
func (d database) durable() state {
	switch {
	case d.postgres:
		return d.states()["an advisory lock"]
	case d.ofMySQL:
		return d.states()["a variable"]
	}
	return d.states()["a setting"]
}

// leave leaves the state on the connection of ctx's session.
func (s state) on(ctx context.Context, db execer) error {
	for _, statement := range s.leave {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// seen returns what the next unit sees of a state: a value or an error.
func (d *opened) seen(t *testing.T, s state) string {
	t.Helper()
	var value sql.NullString
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		return d.QueryRowContext(ctx, s.look).Scan(&value)
	})
	if err != nil {
		return fmt.Sprintf("error: %v", err)
	}
	return fmt.Sprintf("%q", value.String)
}

func TestNoUnitMeetsWhatAnotherHasLeftOnItsConnectionWhereTheDBResetsThem(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		d.leaveOne(t)
		for name, s := range d.states() {
			t.Run(name, func(t *testing.T) {
				before := d.seen(t, s)
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return s.on(ctx, d) }))
				if after := d.seen(t, s); after != before {
					t.Errorf("the next unit sees %s, a new connection shows %s", after, before)
				}
			})
		}
	}, dbscope.ResetConnections())
}

func TestAUnitLeavesWhatItHasSetOnItsConnectionWithoutTheOption(t *testing.T) {
	for name, database := range databases {
		for what, s := range database.states() {
			t.Run(name+"/"+what, func(t *testing.T) {
				d := open(t, database)
				d.leaveOne(t)
				before := d.seen(t, s)
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return s.on(ctx, d) }))
				if after := d.seen(t, s); after == before {
					t.Errorf("the next unit sees %s, as a new connection shows: the other test shows nothing", after)
				}
			})
		}
	}
}

var errReset = errors.New("this unit fails")

// A lock, a variable and a PRAGMA survive the rollback of the transaction that
// made them.
func TestNothingOfAUnitStaysOnItsConnectionHoweverItEnds(t *testing.T) {
	fails := func(ctx context.Context, d *opened, unit func(context.Context) error) error {
		err := dbscope.Run(ctx, func(ctx context.Context) error { return errors.Join(unit(ctx), errReset) })
		if errors.Is(err, errReset) {
			return nil
		}
		return fmt.Errorf("the unit was to fail: %w", err)
	}
	ends := map[string]func(ctx context.Context, d *opened, s state) error{
		"an error": func(ctx context.Context, d *opened, s state) error {
			return fails(ctx, d, func(ctx context.Context) error { return s.on(ctx, d) })
		},
		"a statement that fails": func(ctx context.Context, d *opened, s state) error {
			return fails(ctx, d, func(ctx context.Context) error {
				err := s.on(ctx, d)
				_, _ = d.ExecContext(ctx, "INSERT INTO nowhere (id) VALUES (1)")
				return err
			})
		},
		"a panic": func(ctx context.Context, d *opened, s state) (err error) {
			defer func() { _ = recover() }()
			return dbscope.Run(ctx, func(ctx context.Context) error { err = s.on(ctx, d); panic("stop") })
		},
		"early commit and release": func(ctx context.Context, d *opened, s state) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				if err := errors.Join(s.on(ctx, d), d.Commit(ctx), d.Release(ctx)); err != nil {
					return err
				}
				// On the unit's next connection, which is the same one or takes its place.
				var now sql.NullString
				err := d.QueryRowContext(ctx, s.look).Scan(&now)
				if now.String == "1" || now.String == "77" {
					err = errors.Join(err, errors.New("the unit meets its own state again"))
				}
				return err
			})
		},
		"a function of a Group": func(ctx context.Context, d *opened, s state) error {
			g := dbscope.NewGroup(ctx)
			g.Go(func(ctx context.Context) error { return s.on(ctx, d) })
			return g.Wait()
		},
		"an Atomic block": func(ctx context.Context, d *opened, s state) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				return d.Atomic(ctx, func(ctx context.Context) error { return s.on(ctx, d) })
			})
		},
		"the handle": func(ctx context.Context, d *opened, s state) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				h, err := d.handle(ctx)
				if err != nil {
					return err
				}
				return s.on(ctx, h)
			})
		},
		"SQL": func(ctx context.Context, d *opened, s state) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { return s.on(ctx, d.SQL()) })
		},
		"rows left open": func(ctx context.Context, d *opened, s state) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				if err := s.on(ctx, d); err != nil {
					return err
				}
				rows, err := d.QueryContext(ctx, "SELECT 1 UNION SELECT 2") //nolint:rowserrcheck,sqlclosecheck // the unit's end does
				if err == nil {
					rows.Next()
				}
				return err
			})
		},
		"a hook after the commit": func(ctx context.Context, d *opened, s state) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				_, err := d.ExecContext(ctx, "SELECT 1")
				return errors.Join(err, d.AfterCommit(ctx, func(ctx context.Context) error { return s.on(ctx, d) }))
			})
		},
		"no scope": func(ctx context.Context, d *opened, s state) error { return s.on(ctx, d) },
		"a unit that only reads": func(ctx context.Context, d *opened, s state) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { return s.on(ctx, d) }, dbscope.ReadOnly())
		},
	}
	onEach(t, func(t *testing.T, d *opened) {
		d.leaveOne(t)
		s := d.durable()
		before := d.seen(t, s)
		for name, end := range ends {
			t.Run(name, func(t *testing.T) {
				ok(t, end(t.Context(), d, s))
				if after := d.seen(t, s); after != before {
					t.Errorf("the next unit sees %s, a new connection shows %s", after, before)
				}
				if n := d.inUse(t); n != 0 && !d.native {
					t.Errorf("%d connections are in use", n)
				}
			})
		}
	}, dbscope.ResetConnections(), dbscope.AllowUnscoped())
}

func TestTheTransactionsOfAUnitShareWhatItHasSet(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := d.durable()
		before := d.seen(t, s)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, s.on(ctx, d))
			ok(t, d.Commit(ctx))
			var value string
			ok(t, d.QueryRowContext(ctx, s.look).Scan(&value))
			if fmt.Sprintf("%q", value) == before {
				t.Errorf("after an early commit the unit sees %s, as a new connection shows", value)
			}
			return nil
		}))
	}, dbscope.ResetConnections())
}

// On PostgreSQL a reset is a statement; others make a new connection for each unit.
func TestOnlyDatabasesWithoutAStatementForItMakeNewConnections(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		d.leaveOne(t)
		const units = 5
		before := d.dialed.Load()
		for range units {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				rows, err := d.QueryContext(ctx, "SELECT 1")
				if err != nil {
					return err
				}
				return errors.Join(rows.Err(), rows.Close())
			}))
		}
		switch made := d.dialed.Load() - before; {
		case d.postgres && made > 1, !d.postgres && made != units:
			t.Errorf("%d connections were made for %d units", made, units)
		}
	}, dbscope.ResetConnections())
}
