package cluster_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// small are the adapters with pools of a size.
var small = map[string]func(size int, opts ...dbscope.DBOption) database{
	"sqlscope": func(size int, opts ...dbscope.DBOption) database {
		return overSQL{sqlscope.New(func(_ context.Context, host string) (*sql.DB, error) {
			pool, err := sql.Open("pgx", strings.ReplaceAll(dsn, "{host}", host))
			if err == nil {
				pool.SetMaxOpenConns(size)
			}
			return pool, err
		}, opts...)}
	},
	"pgxscope": func(size int, opts ...dbscope.DBOption) database {
		return overPgx{pgxscope.New(func(ctx context.Context, host string) (*pgxpool.Pool, error) {
			config, err := pgxpool.ParseConfig(strings.ReplaceAll(dsn, "{host}", host))
			if err != nil {
				return nil, err
			}
			config.MaxConns = int32(size)
			return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
		}, opts...)}
	},
}

// A server that is frozen answers nothing, and refuses nothing.
func TestAUnitThatWaitsForAConnectionOfAFrozenPrimaryRunsOnTheNextOne(t *testing.T) {
	for size, waits := range map[int]string{1: "for one to come free", 2: "for a new one"} {
		for name, open := range small {
			t.Run(name+" "+waits, func(t *testing.T) {
				primary := pgtest.Start(t)
				standby := primary.Standby(t)
				network := wire.Start(t, at(primary))
				nodes := cluster.New(cluster.List(network.Addr(), at(standby)))
				db := open(size, dbscope.Router(nodes))
				defer func() { ok(t, db.Close()) }()
				fresh(t, nodes, 1, db)

				ctx, end := context.WithTimeout(t.Context(), time.Minute)
				held, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					_ = dbscope.Run(ctx, func(ctx context.Context) error { // whatever becomes of it
						err := db.exec(ctx, "SELECT 1")
						close(held)
						<-ctx.Done()
						return err
					})
				}()
				<-held
				network.Delay(time.Hour)
				ran := make(chan error)
				go func() {
					host, err := where(ctx, db)
					if err == nil && host != at(standby) {
						err = fmt.Errorf("it ran on %s", host)
					}
					ran <- err
				}()
				time.Sleep(100 * time.Millisecond) // it waits, most of the time
				standby.Query(t, standby.DSN("postgres"), "SELECT pg_promote()")
				ok(t, <-ran)
				network.Delay(0)
				network.CloseAll()
				end()
				<-ended
			})
		}
	}
}
