package pool

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"shop/store"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

var (
	shop      = store.Shop
	plain, _  = sql.Open("sqlite", "shop.db")
	ambient   = shop.SQL()
	warehouse = pgxscope.Open("postgres:///warehouse")
)

type service struct {
	pool *pgxpool.Pool
	sql  *sql.DB // given by someone else
	own  *sql.DB
}

func newService(sql *sql.DB) *service { return &service{sql: sql, own: plain} }

func (s *service) unit(ctx context.Context) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		if _, err := plain.ExecContext(ctx, "a"); err != nil { // want `ExecContext of plain runs outside of the unit of work, on the pool`
			return err
		}
		s.pool.QueryRow(ctx, "a")                                   // want `QueryRow of s.pool runs outside of the unit`
		s.own.Query("a")                                            // want `Query of s.own runs outside`
		if _, err := s.pool.Begin(context.Background()); err != nil { // want `Begin of s.pool runs outside`
			return err
		}
		s.sql.ExecContext(ctx, "a")
		ambient.ExecContext(ctx, "a")
		_, err := shop.SQL().ExecContext(ctx, "a")
		return err
	})
}

func (s *service) engine(ctx context.Context) error {
	engine, err := shop.Engine(ctx)
	if err != nil {
		return err
	}
	if _, err := engine.ExecContext(ctx, "a"); err != nil { // want `ExecContext of engine runs outside`
		return err
	}
	_, err = shop.ExecContext(ctx, "b")
	return err
}

func (s *service) atStart(ctx context.Context) error {
	engine, err := shop.Engine(ctx)
	if err != nil {
		return err
	}
	return engine.QueryRowContext(ctx, "SELECT version()").Scan(new(string))
}

func (s *service) generated(ctx context.Context) error {
	return shop.Atomic(ctx, func(ctx context.Context) error {
		if err := store.New(plain).CreateOrder(ctx, "tea"); err != nil { // want `store.New of plain runs outside`
			return err
		}
		return store.New(shop).CreateOrder(ctx, "tea")
	})
}

func (s *service) begins(ctx context.Context) error {
	if err := pgx.BeginFunc(ctx, s.pool, func(pgx.Tx) error { return nil }); err != nil { // want `pgx.BeginFunc of s.pool runs outside`
		return err
	}
	_, err := warehouse.Exec(ctx, "a")
	return err
}

// adopted hands its transaction over: there is no scope before.
func (s *service) adopted(ctx context.Context) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	joined, ended, err := warehouse.Adopt(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := warehouse.Exec(joined, "a"); err != nil {
		return err
	}
	return ended(ctx, tx.Commit(ctx) == nil)
}

func (s *service) listens(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = warehouse.Exec(ctx, "a")
	return err
}

func (s *service) later(ctx context.Context) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		go s.pool.Exec(context.WithoutCancel(context.Background()), "a")
		return store.Place(ctx, "tea")
	})
}

func (s *service) withoutUnit(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, "a")
	return err
}

// outside of units by what its name says: the two are meant to be apart.
func (s *service) apart(ctx context.Context) error {
	if _, err := s.pool.Exec(dbscope.WithoutScope(ctx), "a"); err != nil {
		return err
	}
	_, err := store.Outside.ExecContext(ctx, "b")
	return err
}

// either looks whether there is a scope, and knows what it does.
func (s *service) either(ctx context.Context) error {
	tx, err := warehouse.Session(ctx)
	if errors.Is(err, dbscope.ErrNoScope) {
		tx, err = s.pool.Begin(ctx)
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "a")
	return err
}
