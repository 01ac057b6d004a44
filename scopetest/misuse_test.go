package scopetest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/scopetest"
)

// Package tests/scopetest has the misuses that show on real databases.

// recorder is a test that keeps what it is told when it fails.
type recorder struct {
	testing.TB
	ctx     context.Context
	message string
}

func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Fatal(args ...any) {
	r.message = fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

func TestAMisuseEndsTheTestWithAMessageThatSaysSo(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB()
	broken := errors.New("no such table")
	for name, misuse := range map[string]struct {
		test    func(t testing.TB)
		message string
	}{
		"no database": {func(t testing.TB) { scopetest.Rollback(t) }, "name the databases that the test uses"},
		"a count of what is not there": {func(t testing.TB) {
			ctx := scopetest.Rollback(t, db)
			if err := dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") }); err != nil {
				t.Error(err)
			}
			fake.Inject("row", drivertest.Fault{Err: broken})
			scopetest.Count(ctx, db, "nothing")
		}, "counting the rows of nothing"},
		"a count with some context": {func(t testing.TB) {
			defer func() { t.Fatal(recover()) }()
			scopetest.Count(t.Context(), db, "orders")
		}, "the context is not one of scopetest.Rollback"},
		"some context as the test's": {func(t testing.TB) {
			defer func() { t.Fatal(recover()) }()
			scopetest.Attach(t.Context(), t.Context())
		}, "the context is not one of scopetest.Rollback"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t, ctx: t.Context()}
			var test sync.WaitGroup
			test.Go(func() {
				misuse.test(r)
				t.Error("the test goes on")
			})
			test.Wait()
			if !strings.Contains(r.message, misuse.message) {
				t.Errorf("the test's message is %q, want one with %q", r.message, misuse.message)
			}
		})
	}
	if rows := fake.Rows(); len(rows) != 0 || fake.Open() != 0 {
		t.Errorf("rows %q are stored, and %d connections open", rows, fake.Open())
	}
}
