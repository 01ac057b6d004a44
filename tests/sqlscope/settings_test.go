package sqlscope_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/settings"
	"github.com/dbscope/dbscope/tests/wire"
)

var as, fromContext = settings.As, settings.FromContext

func TestSettingsAreOneStatementAfterBegin(t *testing.T) {
	for name, c := range map[string]struct {
		driver, parameter string
		trips             int
	}{
		"pgx":                         {"pgx", "", 4}, // BEGIN, settings, the statement, COMMIT
		"pq":                          {"postgres", "", 6},
		"pq with binary_parameters":   {"postgres", "&binary_parameters=yes", 4},
		"pgx with the simple queries": {"pgx", "&default_query_exec_mode=simple_protocol", 4},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
			db := sqlscope.Open(c.driver, proxy.DSN(pgtest.Shared(t).CreateDatabase(t))+c.parameter, fromContext)
			t.Cleanup(func() { ok(t, db.Close()) })
			unit := func() {
				ok(t, dbscope.Run(as(t.Context(), "app.tenant", "a", "lock_timeout", "5s"), func(ctx context.Context) error {
					var got string
					err := db.QueryRowContext(ctx, "SELECT current_setting($1) || current_setting('lock_timeout')", "app.tenant").Scan(&got)
					if got != "a5s" {
						t.Errorf("the settings are %q", got)
					}
					return err
				}))
			}
			unit()
			unit() // pgx asks a connection for the second time whether it is alive
			proxy.Reset()
			unit()
			if got := proxy.RoundTrips(); got != c.trips {
				t.Errorf("%d round trips, want %d:\n%v", got, c.trips, proxy.Messages())
			}
			proxy.Reset()
			ok(t, dbscope.Run(as(t.Context()), func(ctx context.Context) error { _, err := db.Session(ctx); return err }))
			if sent := proxy.Messages(); len(sent) > 0 {
				t.Errorf("a unit without a statement sent %v", sent)
			}
		})
	}
}

// The refusal is the first statement's, which is not run; nothing is left on the
// connection, and it is used again.
func TestAStatementWhoseSettingsAreRefusedIsNotRun(t *testing.T) {
	for name, d := range databases {
		if !d.postgres {
			continue
		}
		t.Run(name, func(t *testing.T) {
			o := open(t, d, fromContext)
			for _, bad := range [][]string{{"nothing_of_this_name", "x"}, {"app.tenant", "b", "statement_timeout", "soon"}} {
				is(t, dbscope.Run(as(t.Context(), bad...), func(ctx context.Context) error {
					err := insert(ctx, o, 1)
					if err == nil || !strings.Contains(err.Error(), bad[len(bad)-2]) {
						t.Errorf("the statement answers %v", err)
					}
					is(t, insert(ctx, o, 1), dbscope.ErrRolledBack)
					return nil
				}), dbscope.ErrRolledBack)
				tx, err := o.SQL().BeginTx(as(t.Context(), bad...), nil) // without a scope, and not allowed
				if err == nil {
					ok(t, tx.Rollback())
				}
				is(t, err, dbscope.ErrNoScope)
				if n := o.inUse(t); n != 0 {
					t.Errorf("%d connections are in use", n)
				}
			}
			want(t, "stored", o.stored(t))
			ok(t, dbscope.Run(as(t.Context(), "app.tenant", "a"), func(ctx context.Context) error {
				var got string
				err := o.SQL().QueryRowContext(ctx, "SELECT current_setting('app.tenant') || current_setting('statement_timeout')").Scan(&got)
				if got != "a0" {
					t.Errorf("afterwards the settings are %q", got)
				}
				return err
			}))
			if n := o.dialed.Load(); n != 1 {
				t.Errorf("%d connections were made, want one", n)
			}
		})
	}
}

// A context that ends while the settings are on their way leaves no transaction behind.
func TestAUnitThatEndsWithItsSettingsLeavesNothing(t *testing.T) {
	for name, d := range databases {
		if !d.postgres {
			continue
		}
		t.Run(name, func(t *testing.T) {
			o := open(t, d, fromContext)
			for range 20 {
				ctx, cancel := context.WithCancel(as(t.Context(), "app.tenant", "a"))
				go cancel()
				err := dbscope.Run(ctx, func(ctx context.Context) error { return insert(ctx, o, 1) })
				if err == nil {
					_, err := o.other.Exec("DELETE FROM t")
					ok(t, err)
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("the error is %v", err)
				}
				cancel()
			}
			for o.inUse(t) > 0 { // the pool of pgx closes connections in the background
				time.Sleep(time.Millisecond)
			}
			want(t, "stored", o.stored(t))
			var open int
			ok(t, o.other.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'").Scan(&open))
			if open != 0 {
				t.Errorf("%d transactions are open", open)
			}
		})
	}
}
