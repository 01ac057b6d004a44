package pgxscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// asking is a router whose host has to be asked first, unless it was behind.
type asking struct {
	fixed
	ask func(context.Context, driver.Conn, driver.Route) (bool, error)
}

func (asking) Route(_ context.Context, need driver.RouteRequest) (driver.Route, error) {
	if need.Behind {
		return driver.Route{Host: "server"}, nil
	}
	return driver.Route{Host: "server", Replica: true, After: driver.Position{Timeline: 1, Number: 1}}, nil
}

func (a asking) Ready(ctx context.Context, conn driver.Conn, r driver.Route) (bool, error) {
	return a.ask(ctx, conn, r)
}

func openAsking(t *testing.T, mode pgx.QueryExecMode, ask func(context.Context, driver.Conn, driver.Route) (bool, error)) (*opened, *wire.Proxy) {
	dsn := createDatabase(t)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	return openDSN(t, proxy.DSN(dsn), dsn, mode, dbscope.Router(asking{fixed{cluster.New(nil)}, ask})), proxy
}

// R14: the snapshot is newer than the answer, on the same connection of the
// server, and BEGIN costs nothing.
func TestAReplicaIsAskedInTheTransactionWhichIsThenANewOne(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			var d *opened
			asked, id := true, 0
			ask := func(ctx context.Context, conn driver.Conn, r driver.Route) (bool, error) {
				if !asked {
					return true, nil
				}
				yes, err := cluster.New(nil).Ready(ctx, conn, r)
				id++
				pgtest.Shared(t).Query(t, d.dsn, "INSERT INTO t VALUES ("+itoa(id)+")")
				return yes, err
			}
			d, proxy := openAsking(t, mode, ask)
			for level, want := range map[sql.IsolationLevel]string{
				sql.LevelReadCommitted: "read committed on", sql.LevelRepeatableRead: "repeatable read on",
			} {
				trips := func() int {
					proxy.Reset()
					ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
						n, is := 0, ""
						err := d.QueryRow(ctx, `SELECT count(*), current_setting('transaction_isolation') || ' ' ||
							current_setting('transaction_read_only') FROM t`).Scan(&n, &is)
						if n != id || is != want {
							t.Errorf("it sees %d rows of %d, in a transaction that is %s, and should be %s", n, id, is, want)
						}
						return err
					}, dbscope.ReadOnly(), dbscope.Isolation(level), dbscope.AwaitEnd())) // so that the counts do not mix
					return proxy.RoundTrips()
				}
				asked = true
				trips() // it is prepared
				with := trips()
				asked = false
				if without := trips(); with != without+1 {
					t.Errorf("%v: %d round trips, and %d when it is asked:\n%v", level, without, with, proxy.Messages())
				}
			}
		})
	}
}

func TestAConnectionWhoseReplicaIsNotReadyStaysUsable(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			stop := errors.New("stop")
			var fails error
			d, _ := openAsking(t, mode, func(ctx context.Context, conn driver.Conn, _ driver.Route) (bool, error) {
				_, err := conn.FirstRow(ctx, "SELECT 1")
				return false, errors.Join(err, fails)
			})
			read := func() error {
				return dbscope.Run(t.Context(), func(ctx context.Context) error {
					return d.QueryRow(ctx, "SELECT count(*) FROM t").Scan(new(int))
				}, dbscope.ReadOnly())
			}
			ok(t, read())
			fails = stop
			is(t, read(), stop)
			fails = nil
			ok(t, read())
			if n := d.dialed.Load(); n != 1 || d.inUse(t) != 0 {
				t.Errorf("%d connections were dialed, %d are in use", n, d.inUse(t))
			}
		})
	}
}
