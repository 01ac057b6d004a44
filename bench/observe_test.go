package bench

import (
	"context"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/observe"
)

// listener is told of everything, and does nothing.
type listener struct{}

func (l listener) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	return ctx, l
}
func (listener) End(context.Context, observe.Event) {}

// BenchmarkStatementThatNobodyObserves is what each statement pays for the question
// whether anybody does: the difference of the two.
func BenchmarkStatementThatNobodyObserves(b *testing.B) {
	db := drivertest.NewFake().DB()
	must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
		must(b, drivertest.Exec(ctx, db, "row"))
		s, err := dbscope.Gate(db).Session(ctx)
		must(b, err)
		b.Run("the loop alone", func(b *testing.B) {
			n := 0
			for b.Loop() {
				n++
			}
		})
		b.Run("asked", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if o := s.Observer(); o != nil {
					o.Start(ctx, driver.Statement{})
				}
			}
		})
		return nil
	}))
}

// BenchmarkUnitObserved is a unit of three statements on a database in memory.
func BenchmarkUnitObserved(b *testing.B) {
	for name, opts := range map[string][]dbscope.DBOption{
		"by nobody": nil,
		"by one":    {dbscope.Observe(listener{})},
		"by three":  {dbscope.Observe(listener{}), dbscope.Observe(&listener{}), dbscope.Observe(observe.Together(listener{}))},
	} {
		b.Run(name, func(b *testing.B) {
			db := drivertest.NewFake().DB(opts...)
			b.ReportAllocs()
			for b.Loop() {
				must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
					tx, err := db.Session(ctx)
					if err != nil {
						return err
					}
					for range 3 {
						if _, err := tx.Setting(ctx, "none"); err != nil {
							return err
						}
					}
					return nil
				}))
			}
		})
	}
}

// BenchmarkHolding is the question that a call of another service asks.
func BenchmarkHolding(b *testing.B) {
	db := drivertest.NewFake().DB()
	must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
		must(b, drivertest.Exec(ctx, db, "row"))
		b.ReportAllocs()
		for b.Loop() {
			if len(dbscope.Holding(ctx)) != 1 {
				b.Fatal("it holds one")
			}
		}
		return nil
	}))
}
