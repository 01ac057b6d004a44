package pgxscope_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// moving is a router that a test leads to another host.
type moving struct {
	fixed
	host string
}

func (m *moving) Route(context.Context, driver.RouteRequest) (driver.Route, error) {
	return driver.Route{Host: m.host}, nil
}

// A standby knows of transactions what was replayed to it, which says nothing
// of those that were not, and nothing for certain of the others: after a
// promotion an id may be another transaction's.
func TestAStandbyNeverSettlesACommit(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	for name, stored := range map[string]bool{"a commit that was done": true, "a commit that was not": false} {
		t.Run(name, func(t *testing.T) {
			dsn := primary.DSN("postgres")
			primary.Query(t, dsn, "DROP TABLE IF EXISTS t; "+schema)
			proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", primary.Port()))
			dsns := map[string]string{"primary": proxy.DSN(dsn), "standby": standby.DSN("postgres")}
			hosts := &moving{fixed: fixed{cluster.New(nil)}, host: "primary"}
			db := pgxscope.New(func(ctx context.Context, host string) (*pgxpool.Pool, error) {
				config, err := pgxpool.ParseConfig(dsns[host])
				if err != nil {
					return nil, err
				}
				pgxscope.Configure(config)
				return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
			}, dbscope.SettleByStatus(), dbscope.Router(hosts))
			defer func() { ok(t, db.Close()) }()
			when := wire.Before
			if stored {
				when = wire.After
			}
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := insert(ctx, db, 1); err != nil {
					return err
				}
				proxy.Cut(wire.CutAt{Message: "Query", Containing: "commit", When: when})
				hosts.host = "standby"
				return nil
			}, dbscope.CommitTimeout(time.Second))
			is(t, err, dbscope.ErrCommitUnknown)
			if errors.Is(err, dbscope.ErrRolledBack) || stored && strings.Contains(err.Error(), "could not be settled") {
				t.Errorf("error is %v", err)
			}
			if pool, err := db.Pool(t.Context()); err != nil || pool.Stat().AcquireCount() == 0 {
				t.Errorf("the standby was not asked: %v", err)
			}
			if got := primary.Query(t, dsn, "SELECT count(*) FROM t") == "1"; got != stored {
				t.Errorf("stored is %v", got)
			}
		})
	}
}
