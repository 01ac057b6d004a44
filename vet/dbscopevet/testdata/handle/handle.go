package handle

import (
	"context"
	"database/sql"

	"golang.org/x/sync/errgroup"

	"shop/store"

	"github.com/dbscope/dbscope"
)

var (
	shop   = store.Shop
	global *sql.Tx
)

type repository struct{ tx *sql.Tx }

func (r *repository) open(ctx context.Context) (err error) {
	r.tx, err = shop.Session(ctx) // want `r.tx keeps the handle of a session`
	return err
}

func (r *repository) keep(ctx context.Context) error {
	tx, err := shop.Session(ctx)
	if err != nil {
		return err
	}
	r.tx = tx   // want `r.tx keeps the handle of a session`
	global = tx // want `global keeps the handle of a session`
	_, err = tx.ExecContext(ctx, "a")
	return err
}

func (r *repository) detached(ctx context.Context) error {
	return shop.Detached(ctx, func(ctx context.Context, tx *sql.Tx) error {
		r.tx = tx // want `r.tx keeps the handle`
		return nil
	})
}

// local is over before its unit is.
func local(ctx context.Context) error {
	tx, err := shop.Session(ctx)
	if err != nil {
		return err
	}
	r := &repository{tx: tx}
	r.tx = tx
	_, err = r.tx.ExecContext(ctx, "a")
	return err
}

func away(ctx context.Context, to chan *sql.Tx) error {
	tx, err := shop.Session(ctx)
	if err != nil {
		return err
	}
	to <- tx // want `goes to another goroutine`
	go func() {
		_, _ = tx.Exec("a") // want `goes to another goroutine`
	}()
	go use(tx) // want `goes to another goroutine`
	var g errgroup.Group
	g.Go(func() error {
		_, err := tx.Exec("a") // want `goes to another goroutine`
		return err
	})
	group := dbscope.NewGroup(ctx)
	group.Go(func(ctx context.Context) error {
		own, err := shop.Session(ctx)
		if err != nil {
			return err
		}
		use(own)
		use(tx) // want `goes to another goroutine`
		return nil
	})
	go func() {
		_ = dbscope.Run(context.WithoutCancel(ctx), func(ctx context.Context) error {
			tx, err := shop.Session(ctx)
			if err != nil {
				return err
			}
			use(tx)
			return nil
		})
	}()
	return g.Wait()
}

func use(*sql.Tx) {}
