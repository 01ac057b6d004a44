package outer

import (
	"context"
	"log/slog"
	"net/http"

	"shop/store"

	"github.com/dbscope/dbscope"
)

var shop = store.Shop

// repository is implemented elsewhere.
type repository interface {
	Save(ctx context.Context, item string) error
}

type logger interface{ Info(ctx context.Context, text string) }

type service struct {
	repo repository
	log  logger
	next func(ctx context.Context) error
}

func (s *service) atomic(ctx context.Context) error {
	return shop.Atomic(ctx, func(inner context.Context) error {
		if _, err := shop.ExecContext(ctx, "a"); err != nil { // want `the function of a unit uses the context from outside of it, ctx, and not its own`
			return err
		}
		if err := store.Place(ctx, "tea"); err != nil { // want `from outside of it, ctx`
			return err
		}
		store.Log(ctx, "placed")
		slog.InfoContext(ctx, "placed")
		if err := store.Check(ctx, "placed"); err != nil {
			return err
		}
		return store.Place(inner, "tea")
	})
}

func (s *service) unnamed(ctx context.Context) error {
	return dbscope.Run(ctx, func(context.Context) error {
		return store.Place(ctx, "tea") // want `from outside of it, ctx`
	})
}

func (s *service) blank(ctx context.Context) error {
	return dbscope.Join(ctx, func(_ context.Context) error {
		s.log.Info(ctx, "placed")
		return s.repo.Save(ctx, "tea") // want `from outside of it, ctx`
	})
}

func (s *service) middleware(ctx context.Context) error {
	return dbscope.Run(ctx, func(unit context.Context) error {
		return s.next(ctx) // want `from outside of it, ctx`
	})
}

func (s *service) request(w http.ResponseWriter, r *http.Request) {
	_ = dbscope.Run(r.Context(), func(ctx context.Context) error {
		return store.Place(r.Context(), "tea") // want `from outside of it, r.Context\(\)`
	})
}

func (s *service) group(ctx context.Context, items []string) error {
	g := dbscope.NewGroup(ctx)
	for _, item := range items {
		g.Go(func(unit context.Context) error {
			timeout, cancel := context.WithTimeout(ctx, 1)
			defer cancel()
			if err := store.Place(unit, item); err != nil {
				return err
			}
			return store.Place(timeout, item) // want `from outside of it, timeout`
		})
	}
	return g.Wait()
}

func (s *service) hook(ctx context.Context) error {
	return dbscope.AfterCommit(ctx, func(after context.Context) error {
		return store.Place(ctx, "mail") // want `from outside of it, ctx`
	})
}

func (s *service) shadowed(ctx context.Context) error {
	return shop.Atomic(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 1)
		defer cancel()
		return store.Place(ctx, "tea")
	})
}

// Units of their own, work without a scope and the state of the context are not statements.
func (s *service) others(ctx context.Context) error {
	return dbscope.Run(ctx, func(unit context.Context) error {
		if err := store.Begins(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		if err := store.Place(dbscope.WithoutScope(ctx), "tea"); err != nil {
			return err
		}
		return dbscope.Run(ctx, func(ctx context.Context) error { return store.Place(ctx, "tea") })
	})
}

func (s *service) nested(ctx context.Context) error {
	return dbscope.Run(ctx, func(unit context.Context) error {
		return shop.Atomic(unit, func(block context.Context) error {
			return store.Place(unit, "tea") // want `from outside of it, unit`
		})
	})
}
