package goroutine

import (
	"context"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"

	"shop/store"

	"github.com/dbscope/dbscope"
)

func statements(ctx context.Context, items []string) error {
	go store.Place(ctx, "tea") // want `another goroutine uses the scope of ctx: use a dbscope.Group`
	g, gctx := errgroup.WithContext(ctx)
	for _, item := range items {
		g.Go(func() error {
			return store.Place(gctx, item) // want `uses the scope of gctx`
		})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = store.Shop.ExecContext(context.WithoutCancel(ctx), "a") // want `uses the scope of context.WithoutCancel\(ctx\)`
		_, _ = store.Shop.ExecContext(ctx, "b")
	})
	wg.Wait()
	return g.Wait()
}

func handler(w http.ResponseWriter, r *http.Request) {
	go func() {
		_ = store.Place(r.Context(), "tea") // want `uses the scope of r.Context\(\)`
	}()
}

func unit(ctx context.Context, q *store.Queries) error {
	go q.CreateOrder(ctx, "tea") // it may be on a pool
	return dbscope.Run(ctx, func(ctx context.Context) error {
		go store.Joins(ctx)          // want `uses the scope of ctx`
		go q.CreateOrder(ctx, "tea") // want `uses the scope of ctx`
		go store.Begins(context.WithoutCancel(ctx))
		go store.Log(ctx, "placed")
		go func() {
			_ = dbscope.Run(context.WithoutCancel(ctx), func(ctx context.Context) error { return store.Place(ctx, "tea") })
		}()
		return store.Place(ctx, "tea")
	})
}

func group(ctx context.Context, items []string) error {
	g := dbscope.NewGroup(ctx)
	for _, item := range items {
		g.Go(func(ctx context.Context) error { return store.Place(ctx, item) })
	}
	return g.Wait()
}

func outside(ctx context.Context) {
	go store.Outside.ExecContext(ctx, "a")
	go store.Place(dbscope.WithoutScope(ctx), "a")
}
