package pgxscope_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// openOne is a DB on a pool of one connection, which is reset.
func openOne(t *testing.T, through, dsn string, mode pgx.QueryExecMode) *opened {
	return openPool(t, through, dsn, func(config *pgxpool.Config) {
		config.MaxConns = 1
		config.ConnConfig.DefaultQueryExecMode = mode
	}, dbscope.ResetConnections())
}

func TestAResetTakesOneRoundTripAndKeepsPgxsStatements(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			dsn := createDatabase(t)
			proxy := wire.Start(t, strings.TrimPrefix(strings.Split(dsn, "/")[2], "postgres@"))
			d := openOne(t, proxy.DSN(dsn), dsn, mode)
			unit := func(ctx context.Context) error {
				var n int
				return d.QueryRow(ctx, "SELECT $1::int", 7).Scan(&n)
			}
			ok(t, dbscope.Run(t.Context(), unit))
			want := 3 // the statement with BEGIN, COMMIT, the reset
			if mode == pgx.QueryExecModeDescribeExec {
				want++
			}
			for range 3 {
				proxy.Reset()
				ok(t, dbscope.Run(t.Context(), unit))
				if n := proxy.RoundTrips(); n != want {
					t.Errorf("%d round trips, not %d:\n%s", n, want, strings.Join(proxy.Messages(), "\n"))
				}
			}
			if n := d.dialed.Load(); n != 1 {
				t.Errorf("%d connections were made", n)
			}
		})
	}
}

func TestAStatementThatTheHandleHasPreparedGoesWithItsUnit(t *testing.T) {
	dsn := createDatabase(t)
	d := openOne(t, dsn, dsn, pgx.QueryExecModeCacheStatement)
	for n, text := range []string{"SELECT 1", "SELECT 2", "SELECT 3"} {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := d.Session(ctx)
			ok(t, err)
			if _, err := tx.Prepare(ctx, "mine", text); err != nil {
				return err
			}
			var got int
			err = tx.QueryRow(ctx, "mine").Scan(&got)
			if got != n+1 {
				t.Errorf("%s returned %d", text, got)
			}
			return err
		}))
	}
	if n := d.dialed.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

func TestWhatAConnectionWasMadeWithStays(t *testing.T) {
	dsn := createDatabase(t)
	var dialed atomic.Int64
	d := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.MaxConns = 1
		config.ConnConfig.RuntimeParams["work_mem"] = "77MB"
		config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
			dialed.Add(1)
			_, err := c.Prepare(ctx, "everybody's", "SELECT 42")
			return err
		}
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.ResetConnections())
	t.Cleanup(func() { ok(t, d.Close()) })
	for range 3 {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			var got int
			var parameter string
			err := errors.Join(d.QueryRow(ctx, "everybody's").Scan(&got), d.QueryRow(ctx, "SHOW work_mem").Scan(&parameter))
			if got != 42 || parameter != "77MB" {
				t.Errorf("the statement returned %d, the connection's parameter is %s", got, parameter)
			}
			return err
		}))
	}
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

// What a unit does on the connection directly, dbscope does not see.
func TestWhatAUnitHasDoneOnTheConnectionItselfIsResetToo(t *testing.T) {
	dsn := createDatabase(t)
	d := openOne(t, dsn, dsn, pgx.QueryExecModeCacheStatement)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := d.Session(ctx)
		ok(t, err)
		_, err = tx.Conn().Exec(ctx, "SET ROLE pg_monitor")
		return err
	}))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		var user string
		err := d.QueryRow(ctx, "SELECT current_user").Scan(&user)
		if user != "postgres" {
			t.Errorf("the next unit is %s", user)
		}
		return err
	}))
}

// pgx keeps notifications that nobody has waited for.
func TestNoUnitHearsWhatAnotherHasListenedFor(t *testing.T) {
	dsn := createDatabase(t)
	d := openOne(t, dsn, dsn, pgx.QueryExecModeCacheStatement)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := d.Exec(ctx, "LISTEN leaked")
		ok(t, errors.Join(err, d.Commit(ctx)))
		pgtest.Shared(t).Query(t, dsn, "NOTIFY leaked")
		_, err = d.Exec(ctx, "SELECT 1")
		return err
	}))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := d.Session(ctx)
		ok(t, err)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if n, err := tx.Conn().WaitForNotification(ended); err == nil {
			t.Errorf("the next unit hears of %s", n.Channel)
		}
		return nil
	}))
	if n := d.dialed.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

func TestConnectionsToAStandbyAreResetAndKept(t *testing.T) {
	dsn := pgtest.Start(t).Standby(t).DSN("postgres")
	d := openOne(t, dsn, dsn, pgx.QueryExecModeCacheStatement)
	for range 3 {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			var memory string
			ok(t, d.QueryRow(ctx, "SHOW work_mem").Scan(&memory))
			if memory != "4MB" {
				t.Errorf("the unit has %s", memory)
			}
			_, err := d.Exec(ctx, "SET work_mem = '77MB'")
			return err
		}))
	}
	if n := d.dialed.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

// The server may end a session at any moment, also while it is being reset: the
// unit is stored all the same, and the next one gets another connection.
func TestASessionThatEndsWhileItIsResetChangesNothing(t *testing.T) {
	for _, when := range []wire.When{wire.Before, wire.During, wire.After} {
		t.Run(when.String(), func(t *testing.T) {
			dsn := createDatabase(t)
			proxy := wire.Start(t, strings.TrimPrefix(strings.Split(dsn, "/")[2], "postgres@"))
			d := openOne(t, proxy.DSN(dsn), dsn, pgx.QueryExecModeCacheStatement)
			proxy.Cut(wire.CutAt{Message: "Query", Containing: "RESET ALL", When: when})
			for id := range 2 {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, err := d.Exec(ctx, "INSERT INTO t (id) VALUES ($1)", id)
					return err
				}))
			}
			if n := len(d.stored(t)); n != 2 {
				t.Errorf("%d rows are stored", n)
			}
			if n := d.inUse(t); n != 0 {
				t.Errorf("%d connections are in use", n)
			}
			if n := proxy.Cuts(); n != 1 {
				t.Errorf("%d connections were cut", n)
			}
		})
	}
}
