package sqlscope_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// Without being told they would wait for five seconds each time.
func TestUnitsInUnitsOnAFullPoolAreToldOfADeadlockAndTheOthersGoOn(t *testing.T) {
	const size = 4
	for name, d := range databases {
		t.Run(name, func(t *testing.T) {
			o := open(t, d)
			if d.native {
				dsn := d.dsn(t)
				o.scoped = overPgx{pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
					config, err := pgxpool.ParseConfig(dsn)
					if err != nil {
						return nil, err
					}
					config.MaxConns = size
					pgxscope.Configure(config)
					return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
				})}
				t.Cleanup(func() { ok(t, o.Close()) })
			} else {
				pool, err := o.scoped.(overSQL).Engine(t.Context())
				ok(t, err)
				pool.SetMaxOpenConns(size)
			}
			read := func(ctx context.Context) error {
				var one int
				return o.QueryRowContext(ctx, "SELECT 1").Scan(&one)
			}
			var done atomic.Int32
			var all sync.WaitGroup
			for range 2 * size {
				all.Go(func() {
					for range 50 {
						err := dbscope.Run(t.Context(), func(ctx context.Context) error {
							if err := read(ctx); err != nil {
								return err
							}
							return dbscope.Run(ctx, read, dbscope.ReadOnly())
						}, dbscope.ReadOnly())
						if err == nil {
							done.Add(1)
						} else if !errors.Is(err, dbscope.ErrPoolDeadlock) {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if done.Load() == 0 {
				t.Error("none was committed")
			}
			t.Logf("%d of %d were committed", done.Load(), 2*size*50)
		})
	}
}
