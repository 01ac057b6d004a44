package ignore

import (
	"context"

	"shop/store"

	"github.com/dbscope/dbscope"
)

func ignored(ctx context.Context) error {
	return dbscope.Run(ctx, func(unit context.Context) error {
		//dbscopevet:ignore the outer unit notes what the inner one did
		if err := store.Place(ctx, "tea"); err != nil {
			return err
		}
		if err := store.Place(ctx, "tea"); err != nil { //dbscopevet:ignore the same
			return err
		}
		//dbscopevet:ignore
		return store.Place(ctx, "tea") // want `from outside of it, ctx`
	})
}
