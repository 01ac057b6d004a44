package retry

import (
	"context"
	"strings"

	"shop/store"

	"github.com/dbscope/dbscope"
)

type counter struct{ n int }

var policy = dbscope.RetryPolicy{}

func (c *counter) all(ctx context.Context, items []string) (placed []string, err error) {
	n := 0
	seen := map[string]bool{}
	var out strings.Builder
	var last string
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		for _, item := range items {
			if err := store.Place(ctx, item); err != nil {
				return err
			}
			placed = append(placed, item) // want `placed is outside of a function that is retried`
			n++                           // want `n is outside of a function that is retried`
			c.n += 2                      // want `c.n is outside`
			seen[item] = true             // want `seen is outside`
			delete(seen, "tea")           // want `seen is outside`
			out.WriteString(item)         // want `out is outside`
			last = item
		}
		return nil
	}, dbscope.Retry(policy))
	_ = last
	return placed, err
}

func anew(ctx context.Context, items []string) (placed []string, err error) {
	n, attempts := 0, 0
	seen := map[string]bool{}
	var out strings.Builder
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		attempts++
		placed, n = placed[:0], 0
		clear(seen)
		out.Reset()
		inside := 0
		for _, item := range items {
			placed = append(placed, item)
			n++
			inside++
			seen[item] = true
			out.WriteString(item)
		}
		return store.Place(ctx, "tea")
	}, dbscope.Retry(policy))
	return placed, err
}

func once(ctx context.Context) (n int, err error) {
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		n++
		return store.Place(ctx, "tea")
	})
	return n, err
}

func zero(ctx context.Context, items []string) ([]string, error) {
	var placed []string
	err := store.Shop.Atomic(ctx, func(ctx context.Context) error {
		for _, item := range items {
			placed = append(placed, item) // want `placed is outside`
		}
		return nil
	}, dbscope.Retry(policy))
	return placed, err
}

func group(ctx context.Context) error {
	n := 0
	g := dbscope.NewGroup(ctx, dbscope.Retry(policy))
	g.Go(func(ctx context.Context) error {
		n++ // want `n is outside`
		return store.Place(ctx, "tea")
	})
	other := dbscope.NewGroup(ctx)
	other.Go(func(ctx context.Context) error {
		n++
		return nil
	})
	return g.Wait()
}
