package scopetest_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/scopetest"
)

// parallel runs tests side by side on one DB, and returns when all have ended.
func parallel(t *testing.T, d opened, n int, test func(ctx context.Context, t *testing.T, i int)) {
	t.Run("parallel", func(t *testing.T) {
		for i := range n {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				test(scopetest.Fixture(scopetest.Rollback(t, d)), t, i)
			})
		}
	})
}

func TestParallelTestsSeeOnlyTheirOwnRows(t *testing.T) {
	on(t, isPostgreSQL|isMariaDB, func(t *testing.T, d opened) {
		parallel(t, d, 16, func(ctx context.Context, t *testing.T, i int) {
			for k := range 10 {
				ok(t, dbscope.Run(ctx, store(d, 10*i+k, nil)))
				is(t, dbscope.Run(ctx, store(d, -1-i, errStop)), errStop)
				want(ctx, t, d, k+1)
			}
			g := dbscope.NewGroup(ctx)
			for k := range 4 {
				g.Go(store(d, 1000+10*i+k, nil))
			}
			ok(t, g.Wait())
			want(ctx, t, d, 14)
		})
	})
}

// The second to store a key waits until the first one's test is over.
func TestParallelTestsThatStoreTheSameKeyTakeTurns(t *testing.T) {
	onPostgreSQL(t, func(t *testing.T, d opened) { takeTurns(t, d, 6) })
	on(t, isMariaDB, func(t *testing.T, d opened) { takeTurns(t, d, 2) }) // to which three are a deadlock
}

func takeTurns(t *testing.T, d opened, tests int) {
	var active atomic.Int32
	parallel(t, d, tests, func(ctx context.Context, t *testing.T, _ int) {
		ok(t, dbscope.Run(ctx, store(d, 1, nil)))
		if n := active.Add(1); n != 1 {
			t.Errorf("%d tests have the row", n)
		}
		time.Sleep(5 * time.Millisecond)
		want(ctx, t, d, 1)
		active.Add(-1)
	})
}

// SQLite has one writer: what a test stores locks the others out until it is
// over, as long as busy_timeout allows.
func TestParallelTestsThatWriteOnSQLiteTakeTurns(t *testing.T) {
	for name, options := range map[string]string{
		"immediate": "&_txlock=immediate&_pragma=busy_timeout(20000)",
		"deferred":  "&_pragma=busy_timeout(20000)",
	} {
		t.Run(name, func(t *testing.T) {
			d := opened{overSQL{sqlscope.Open("sqlite", sqliteFile(t)+options)}, isSQLite}
			d.prepare(t)
			takeTurns(t, d, 6)
		})
	}
}

func TestATestThatWritesLocksSQLite(t *testing.T) {
	d := opened{overSQL{sqlscope.Open("sqlite", sqliteFile(t))}, isSQLite}
	d.prepare(t)
	t.Run("in a test", func(t *testing.T) {
		first, second := scopetest.Fixture(scopetest.Rollback(t, d)), scopetest.Fixture(scopetest.Rollback(t, d))
		ok(t, insert(first, d, 1))
		want(second, t, d, 0) // reading is free
		if err := dbscope.Run(second, store(d, 2, nil)); err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("error is %v", err)
		}
		want(first, t, d, 1)
	})
	ok(t, dbscope.Run(scopetest.Rollback(t, d), store(d, 2, nil)))
}
