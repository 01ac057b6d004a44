package sqlscope_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/dbscope/dbscope"
)

// request is what a unit's context carries.
type request [100 << 10]byte

type requestKey struct{}

// burst runs units at once, each on a connection of its own, and returns what
// their contexts carried.
func burst(t *testing.T, n int, unit func(ctx context.Context, i int) error) []weak.Pointer[request] {
	t.Helper()
	carried := make([]weak.Pointer[request], n)
	var all, wg sync.WaitGroup
	all.Add(n)
	for i := range n {
		wg.Go(func() {
			r := &request{}
			carried[i] = weak.Make(r)
			ctx := context.WithValue(t.Context(), requestKey{}, r)
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				err := unit(ctx, i)
				all.Done()
				all.Wait()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return carried
}

func TestNothingOfAUnitIsKeptWhenItIsOver(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		const units = 4
		stmt, err := d.PrepareContext(t.Context(), "SELECT count(*) FROM t WHERE id < 0")
		ok(t, err)
		ofSQL, err := d.SQL().PrepareContext(t.Context(), "SELECT count(*) FROM t WHERE id < 0")
		ok(t, err)
		run := map[string]func(ctx context.Context, i int) error{
			"a prepared statement that returns rows": func(ctx context.Context, _ int) error { return stmt.QueryRowContext(ctx).Scan(new(int)) },
			"one of SQL()":                           func(ctx context.Context, _ int) error { return ofSQL.QueryRowContext(ctx).Scan(new(int)) },
			"a prepared statement that returns none": func(ctx context.Context, _ int) error { _, err := ofSQL.ExecContext(ctx); return err },
			"one that is not closed": func(ctx context.Context, _ int) error {
				s, err := d.PrepareContext(ctx, "SELECT count(*) FROM t WHERE id < 0")
				if err != nil {
					return err
				}
				_, err = s.ExecContext(ctx)
				return err
			},
			"a query": func(ctx context.Context, _ int) error {
				return read(d.QueryContext(ctx, "SELECT id FROM t WHERE id < 0"))
			},
			"a query of SQL()": func(ctx context.Context, _ int) error {
				return read(d.SQL().QueryContext(ctx, "SELECT id FROM t WHERE id < 0"))
			},
		}
		for way, call := range ways {
			run[way] = func(ctx context.Context, i int) error {
				return call(ctx, d, fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", i))
			}
		}
		for what, unit := range run {
			n := units
			if d.driver == "sqlite" {
				n = 1 // has one writer
			}
			d.runElsewhere(t, n)
			carried := burst(t, n, unit)
			_, err := d.other.Exec("DELETE FROM t")
			ok(t, err)
			d.runElsewhere(t, n)
			if n := kept(carried); n > 0 {
				t.Errorf("%s: the contexts of %d of %d units are kept", what, n, len(carried))
			}
		}
		ok(t, stmt.Close())
		ok(t, ofSQL.Close())
	})
}

// To database/sql each of them has a connection, which only their Close gives back.
func TestRowsThatUnitsLeaveOpenAreFreed(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for what, leave := range map[string]func(context.Context) error{
			"rows": func(ctx context.Context) error {
				rows, err := d.QueryContext(ctx, "SELECT 1 UNION ALL SELECT 2")
				if err != nil {
					return err
				}
				rows.Next()
				return rows.Err()
			},
			"rows that were not read": func(ctx context.Context) error {
				_, err := d.QueryContext(ctx, "SELECT 1 UNION ALL SELECT 2") //nolint:rowserrcheck,sqlclosecheck // it forgets them
				return err
			},
			"a row that was not read": func(ctx context.Context) error {
				return d.QueryRowContext(ctx, "SELECT 1").Err()
			},
		} {
			const units = 500
			heap := func() int {
				for range units {
					ctx, cancel := context.WithCancel(t.Context()) // database/sql frees those of SQL() with it
					ok(t, dbscope.Run(ctx, leave))
					cancel()
				}
				for range 3 { // what a finalizer keeps is garbage later
					runtime.GC()
				}
				time.Sleep(10 * time.Millisecond) // finalizers have a goroutine of their own
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				return int(now.HeapAlloc)
			}
			before, each := heap(), 0
			for range 10 { // in which what is pooled comes to its size
				now := heap()
				if each = (now - before) / units; each < 100 {
					break
				}
				before = now
			}
			if each >= 100 {
				t.Errorf("%s: each unit keeps %d bytes", what, each)
			}
		}
	})
}

// runElsewhere uses each of the pool's connections past the scopes. Drivers keep
// the context of a connection's last statement or transaction.
func (d *opened) runElsewhere(t *testing.T, n int) {
	t.Helper()
	var free []func()
	for range n {
		switch db := d.scoped.(type) {
		case overSQL:
			pool, err := db.Engine(t.Context())
			ok(t, err)
			pool.SetMaxIdleConns(n)
			c, err := pool.Conn(t.Context())
			ok(t, err)
			tx, err := c.BeginTx(t.Context(), nil)
			ok(t, err)
			free = append(free, func() { ok(t, errors.Join(tx.Rollback(), c.Close())) })
		case overPgx:
			pool, err := db.Pool(t.Context())
			ok(t, err)
			c, err := pool.Acquire(t.Context())
			ok(t, err)
			_, err = c.Exec(t.Context(), "SELECT 1")
			ok(t, err)
			free = append(free, c.Release)
		}
	}
	for _, f := range free {
		f()
	}
}

// kept returns how many are reachable still.
func kept(carried []weak.Pointer[request]) (n int) {
	for range 10 { // what a finalizer keeps is garbage later
		runtime.GC()
		n = 0
		for _, r := range carried {
			if r.Value() != nil {
				n++
			}
		}
		if n == 0 {
			break
		}
	}
	return n
}
