package sqlscope_test

import (
	"context"
	"database/sql"
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
	case d.mariadb:
		return map[string]state{
			"a setting":             {[]string{"SET SESSION sql_mode = 'ANSI'"}, "SELECT @@sql_mode"},
			"a variable":            {[]string{"SET @leaked = 1"}, "SELECT @leaked"},
			"a temporary table":     {[]string{"CREATE TEMPORARY TABLE leaked (id INT)"}, "SELECT count(*) FROM leaked"},
			"a lock":                {[]string{"SELECT GET_LOCK('leaked', 0)"}, "SELECT IS_USED_LOCK('leaked') IS NULL"},
			"a prepared statement":  {[]string{"PREPARE leaked FROM 'SELECT 1'"}, "EXECUTE leaked"},
			"an isolation level":    {[]string{"SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"}, "SELECT @@tx_isolation"},
			"an identity, inserted": {[]string{"SET SESSION insert_id = 77"}, "SELECT @@insert_id"},
		}
	}
	return map[string]state{
		"a setting":            {[]string{"PRAGMA cache_size = 77"}, "PRAGMA cache_size"},
		"an attached database": {[]string{"ATTACH ':memory:' AS leaked"}, "SELECT count(*) FROM pragma_database_list WHERE name = 'leaked'"},
		"a temporary table":    {[]string{"CREATE TEMP TABLE leaked (id INT)"}, "SELECT count(*) FROM sqlite_temp_master"},
	}
}

// durable is a state of the database that a rollback does not take back.
func (d database) durable() state {
	switch {
	case d.postgres:
		return d.states()["an advisory lock"]
	case d.mariadb:
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
