package bench

import (
	"context"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func BenchmarkSessionThatIsOpen(b *testing.B) {
	fake := drivertest.NewFake()
	db := fake.DB()
	must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
		tx, err := db.Session(ctx)
		must(b, err)
		must(b, tx.Exec(ctx, "row"))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := db.Session(ctx); err != nil {
				b.Fatal(err)
			}
		}
		return nil
	}))
}

func BenchmarkRunThatTouchesNoDatabase(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := dbscope.Run(ctx, func(context.Context) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJoin is what a use case costs that is called inside of a unit.
func BenchmarkJoin(b *testing.B) {
	b.ReportAllocs()
	err := dbscope.Run(b.Context(), func(ctx context.Context) error {
		fn := func(context.Context) error { return nil }
		for b.Loop() {
			if err := dbscope.Join(ctx, fn); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
