package scopetest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/observe/heldscope"
	"github.com/dbscope/dbscope/scopetest"
)

// strict is a test that keeps its errors.
type strict struct {
	testing.TB
	errors []string
}

func (s *strict) Error(args ...any) { s.errors = append(s.errors, fmt.Sprint(args...)) }

func call(ctx context.Context) {
	_, over := heldscope.Call(ctx, "POST payments.example")
	over(nil)
}

func TestStrictFailsATestWhoseUnitsDoWhatIsSlow(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB(dbscope.Name("shop"))
	exec := func(ctx context.Context, row string) { check.OK(t, drivertest.Exec(ctx, db, row)) }
	query := func(ctx context.Context, n int, closes bool) {
		tx, err := db.Session(ctx)
		check.OK(t, err)
		for i := range n {
			rows, err := tx.Query(ctx, fmt.Sprintf("select * from orders where id = %d", i))
			check.OK(t, err)
			if closes {
				check.OK(t, rows.Close())
			}
		}
	}
	for name, c := range map[string]struct {
		unit func(ctx context.Context)
		want []string // parts of one error; none where the test passes
	}{
		"a call in a transaction": {
			func(ctx context.Context) { exec(ctx, "a"); call(ctx) },
			[]string{"POST payments.example was called", "transaction of shop", `the unit "job"`, "strict_test.go:", "opened at"},
		},
		"a call before the transaction": {func(ctx context.Context) { call(ctx); exec(ctx, "a") }, nil},
		"a call after the unit": {func(ctx context.Context) {
			exec(ctx, "a")
			check.OK(t, dbscope.AfterCommit(ctx, func(ctx context.Context) error { call(ctx); return nil }))
		}, nil},
		"a query for each row": {func(ctx context.Context) { query(ctx, 25, true) }, []string{"the same query", "25 times", "select * from orders"}},
		"some queries":         {func(ctx context.Context) { query(ctx, 24, true) }, nil},
		"rows left open":       {func(ctx context.Context) { query(ctx, 1, false) }, []string{"were not closed"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &strict{TB: t}
			ctx := scopetest.Strict(scopetest.Rollback(s, db))
			check.OK(t, dbscope.Run(ctx, func(ctx context.Context) error { c.unit(ctx); return nil }, dbscope.Name("job")))
			text := strings.Join(s.errors, "\n")
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("the test fails with %q, without %q", text, want)
				}
			}
			if fails := len(s.errors); fails > 1 || (fails == 1) != (c.want != nil) {
				t.Errorf("the test fails with %q", s.errors)
			}
		})
	}
}

func TestStrictHoldsForContextsThatAreAttached(t *testing.T) {
	db := drivertest.NewFake().DB()
	s := &strict{TB: t}
	ctx := scopetest.Strict(scopetest.Rollback(s, db), scopetest.Repetitions(2))
	check.OK(t, dbscope.Run(scopetest.Attach(context.Background(), ctx), func(ctx context.Context) error {
		check.OK(t, drivertest.Exec(ctx, db, "a"))
		call(ctx)
		return nil
	}))
	if len(s.errors) != 1 {
		t.Errorf("the test fails with %q", s.errors)
	}
}

func ExampleStrict() {
	testPlaceOrder := func(t *testing.T) {
		ctx := scopetest.Strict(scopetest.Rollback(t, shop))
		err := dbscope.Run(ctx, func(ctx context.Context) error { return placeOrder(ctx, "tea") })
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = testPlaceOrder // go test calls it
}
