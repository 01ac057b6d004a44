package bench

import (
	"context"
	"fmt"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// BenchmarkMany shows how the time of one scope grows with what is in it: the
// nanoseconds for each of 100, 1,000 and 10,000 are the same where it is linear.
// No database takes part.
func BenchmarkMany(b *testing.B) {
	nothing := func(context.Context) error { return nil }
	for _, c := range []struct {
		name string
		work func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], n int) error
	}{
		{"early commits with a hook each", func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], n int) error {
			for range n {
				if err := drivertest.Exec(ctx, db, "row"); err != nil {
					return err
				}
				if err := dbscope.AfterCommit(ctx, nothing); err != nil {
					return err
				}
				if err := db.Commit(ctx); err != nil {
					return err
				}
			}
			return nil
		}},
		{"Atomic blocks with a hook each", func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], n int) error {
			for range n {
				err := db.Atomic(ctx, func(ctx context.Context) error {
					if err := db.AfterCommit(ctx, nothing); err != nil {
						return err
					}
					return dbscope.AfterCommit(ctx, nothing)
				})
				if err != nil {
					return err
				}
			}
			return drivertest.Exec(ctx, db, "row")
		}},
		{"hooks of the scope beside those of an open block", func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], n int) error {
			for range n {
				err := db.Atomic(ctx, func(inner context.Context) error {
					if err := dbscope.AfterCommit(inner, nothing); err != nil {
						return err
					}
					return dbscope.AfterCommit(ctx, nothing)
				})
				if err != nil {
					return err
				}
			}
			return drivertest.Exec(ctx, db, "row")
		}},
		{"BeforeCommit hooks", func(ctx context.Context, _ *dbscope.DB[*drivertest.Tx], n int) error {
			for range n {
				if err := dbscope.BeforeCommit(ctx, nothing); err != nil {
					return err
				}
			}
			return nil
		}},
		{"Atomic blocks in one another", func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], n int) error {
			var nest func(ctx context.Context, n int) error
			nest = func(ctx context.Context, n int) error {
				if n == 0 {
					return nil
				}
				if err := drivertest.Exec(ctx, db, "row"); err != nil {
					return err
				}
				return db.Atomic(ctx, func(ctx context.Context) error { return nest(ctx, n-1) })
			}
			return nest(ctx, n)
		}},
		{"functions of a Group that commits together", func(ctx context.Context, db *dbscope.DB[*drivertest.Tx], n int) error {
			g := dbscope.NewGroup(ctx)
			g.CommitTogether()
			for range n {
				g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
			}
			return g.Wait()
		}},
	} {
		for _, n := range []int{100, 1_000, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				for b.Loop() {
					db := drivertest.NewFake().DB()
					must(b, dbscope.Run(b.Context(), func(ctx context.Context) error { return c.work(ctx, db, n) }))
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/each")
			})
		}
	}
}
