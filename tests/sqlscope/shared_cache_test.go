package sqlscope_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/tests/errtree"
)

var memories atomic.Int64

// sharedCache is SQLite with one cache for all connections, in memory or on disk.
var sharedCache = map[string]database{
	"in memory": {driver: "sqlite", dsn: func(*testing.T) string {
		return fmt.Sprintf("file:shared%d?mode=memory&cache=shared", memories.Add(1))
	}},
	"on disk": {driver: "sqlite", dsn: func(t *testing.T) string {
		return "file:" + t.TempDir() + "/test.db?cache=shared&_pragma=busy_timeout(10000)"
	}},
}

func TestUnitsThatReadAndThenWriteInOneSharedCacheAreRunAgain(t *testing.T) {
	for name, d := range sharedCache {
		t.Run(name, func(t *testing.T) {
			d := open(t, d)
			ok(t, insert(t.Context(), d.other, 0)) // it also keeps the memory
			const units = 8
			var attempts atomic.Int64
			var wg, first sync.WaitGroup
			first.Add(2)
			for i := range units {
				wg.Go(func() {
					// Two have read before anybody writes.
					begun := func() {}
					if i < 2 {
						begun = sync.OnceFunc(func() { first.Done(); first.Wait() })
					} else {
						first.Wait()
					}
					err := dbscope.Run(t.Context(), func(ctx context.Context) error {
						attempts.Add(1)
						if err := read(d.QueryContext(ctx, "SELECT count(*) FROM t")); err != nil {
							return err
						}
						begun()
						return insert(ctx, d, i+1)
					}, dbscope.Retry(dbscope.RetryPolicy{Attempts: 100, MinDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond}))
					begun()
					if err != nil {
						t.Errorf("unit %d: %s", i, errtree.Of(err))
					}
				})
			}
			wg.Wait()
			if n := attempts.Load(); n == units {
				t.Error("nobody was in another's way")
			}
			want(t, "stored", d.stored(t), 0, 1, 2, 3, 4, 5, 6, 7, 8)
		})
	}
}
