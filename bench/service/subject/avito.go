package subject

import (
	"context"

	"github.com/avito-tech/go-transaction-manager/drivers/pgxv5/v2"
	"github.com/avito-tech/go-transaction-manager/trm/v2/manager"
	"github.com/avito-tech/go-transaction-manager/trm/v2/settings"
	"github.com/jackc/pgx/v5"
)

// avito is go-transaction-manager, as its documentation shows it.
func avito(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openPgx(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	trm := manager.Must(pgxv5.NewDefaultFactory(pool))
	getter := pgxv5.DefaultCtxGetter
	within := func(opts pgx.TxOptions, work func(context.Context, onPgx, int) (int, error)) func(context.Context, int) (int, error) {
		s := pgxv5.MustSettings(settings.Must(), pgxv5.WithTxOptions(opts))
		return func(ctx context.Context, id int) (n int, err error) {
			err = trm.DoWithSettings(ctx, s, func(ctx context.Context) error {
				n, err = work(ctx, onPgx{getter.DefaultTrOrDB(ctx, pool)}, id)
				return err
			})
			return n, err
		}
	}
	return &Subject{service{
		read:  within(pgx.TxOptions{AccessMode: pgx.ReadOnly}, read),
		write: within(pgx.TxOptions{}, write),
		mixed: within(pgx.TxOptions{}, mixed),
	}.handler(), closing(pool)}, nil
}
