package scale

import (
	"context"
	"runtime"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope"
)

// The axes. What is in memory is not in nanoseconds.
const (
	Statements = "statements in a unit"
	Databases  = "databases in a unit"
	Nesting    = "blocks in each other"
	Hooks      = "hooks of a unit"
	Concurrent = "units at once, on 16 connections"
	Open       = "open units that have touched no database"
)

const text = "SELECT n FROM t WHERE id = $1"

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func statement(ctx context.Context, q querier) error {
	var n int
	return q.QueryRow(ctx, text, 1).Scan(&n)
}

func (b *bench) axes() []*Axis {
	return []*Axis{
		{Name: Statements, Sizes: []int{1, 10, 100, 1000}, run: b.statements},
		{Name: Databases, Sizes: []int{1, 2, 4, 8, 16, 32}, run: b.inDatabases},
		{Name: Nesting, Sizes: []int{1, 10, 100, 1000}, run: b.nesting},
		{Name: Hooks, Sizes: []int{1, 10, 100, 1000, 10_000}, run: b.hooks, noHands: true},
		{Name: Concurrent, Sizes: []int{10, 100, 1000, 10_000, 100_000}, run: b.concurrent},
		{Name: Open, Sizes: []int{1000, 10_000, 100_000}, each: b.openUnits, Bytes: true},
	}
}

func (b *bench) statements(ctx context.Context, n int, ours bool) error {
	within := func(ctx context.Context, q querier) error {
		for range n {
			if err := statement(ctx, q); err != nil {
				return err
			}
		}
		return nil
	}
	if ours {
		return dbscope.Run(ctx, func(ctx context.Context) error { return within(ctx, b.db) })
	}
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return within(ctx, tx) })
}

// inDatabases has a statement in each of n databases, all in one unit.
func (b *bench) inDatabases(ctx context.Context, n int, ours bool) error {
	if ours {
		return dbscope.Run(ctx, func(ctx context.Context) error {
			for _, db := range b.dbs[:n] {
				if err := statement(ctx, db); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var all []pgx.Tx
	defer func() {
		for _, tx := range all {
			_ = tx.Rollback(ctx) // does nothing after Commit
		}
	}()
	for _, pool := range b.pools[:n] {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		all = append(all, tx)
		if err := statement(ctx, tx); err != nil {
			return err
		}
	}
	for _, tx := range all {
		if err := tx.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// nesting has n savepoints in each other, with a statement in each.
func (b *bench) nesting(ctx context.Context, n int, ours bool) error {
	if ours {
		return dbscope.Run(ctx, func(ctx context.Context) error {
			if err := statement(ctx, b.db); err != nil {
				return err
			}
			return b.nestOurs(ctx, n)
		})
	}
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		if err := statement(ctx, tx); err != nil {
			return err
		}
		return nestByHand(ctx, tx, n)
	})
}

func (b *bench) nestOurs(ctx context.Context, n int) error {
	return b.db.Atomic(ctx, func(ctx context.Context) error {
		if err := statement(ctx, b.db); err != nil || n == 1 {
			return err
		}
		return b.nestOurs(ctx, n-1)
	})
}

func nestByHand(ctx context.Context, tx pgx.Tx, n int) error {
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		if err := statement(ctx, tx); err != nil || n == 1 {
			return err
		}
		return nestByHand(ctx, tx, n-1)
	})
}

func (b *bench) hooks(ctx context.Context, n int, _ bool) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		for range n {
			if err := dbscope.AfterCommit(ctx, func(context.Context) error { return nil }); err != nil {
				return err
			}
		}
		return statement(ctx, b.db)
	})
}

// concurrent starts n units of one statement at once.
func (b *bench) concurrent(ctx context.Context, n int, ours bool) error {
	var (
		all    sync.WaitGroup
		once   sync.Once
		failed error
	)
	for range n {
		all.Go(func() {
			var err error
			if ours {
				err = dbscope.Run(ctx, func(ctx context.Context) error { return statement(ctx, b.db) })
			} else {
				err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return statement(ctx, tx) })
			}
			if err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	all.Wait()
	return failed
}

// openUnits is the memory of a goroutine that is in a unit, or in none.
func (b *bench) openUnits(n int, ours bool) float64 {
	var (
		in, all sync.WaitGroup
		leave   = make(chan struct{})
	)
	before := memory()
	in.Add(n)
	for range n {
		all.Go(func() {
			ctx, cancel := context.WithCancel(context.Background()) // as a request's
			defer cancel()
			wait := func(context.Context) error {
				in.Done()
				<-leave
				return nil
			}
			if ours {
				_ = dbscope.Run(ctx, wait) // commits nothing
			} else {
				_ = wait(ctx)
			}
		})
	}
	in.Wait()
	after := memory()
	close(leave)
	all.Wait()
	return max(0, after-before) / float64(n)
}

func memory() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
