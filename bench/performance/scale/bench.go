package scale

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope/driver/pgxscope"
)

const (
	conns     = 16
	databases = 32
)

// bench has a pool and a DB for most axes, and many with one connection each.
type bench struct {
	pool  *pgxpool.Pool
	db    *pgxscope.DB
	pools []*pgxpool.Pool
	dbs   []*pgxscope.DB
}

func open(ctx context.Context, dsn string) (b *bench, err error) {
	b = &bench{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.pool, err = byHand(ctx, dsn, conns); err != nil {
		return b, err
	}
	if b.db, err = ours(ctx, dsn, conns); err != nil {
		return b, err
	}
	for range databases {
		pool, err := byHand(ctx, dsn, 1)
		if err != nil {
			return b, err
		}
		b.pools = append(b.pools, pool)
		db, err := ours(ctx, dsn, 1)
		if err != nil {
			return b, err
		}
		b.dbs = append(b.dbs, db)
	}
	return b, nil
}

func (b *bench) close() error {
	var failed []error
	for _, db := range append(b.dbs, b.db) {
		if db != nil {
			failed = append(failed, db.Close())
		}
	}
	for _, pool := range append(b.pools, b.pool) {
		if pool != nil {
			pool.Close()
		}
	}
	return errors.Join(failed...)
}

func byHand(ctx context.Context, dsn string, n int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = n, n
	return pgxpool.NewWithConfig(ctx, config)
}

func ours(ctx context.Context, dsn string, n int32) (*pgxscope.DB, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = n, n
	pgxscope.Configure(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil }), nil
}
