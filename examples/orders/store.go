package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

//go:embed schema.sql
var schema string

// createSchema is a unit of work too, outside any request.
func createSchema(ctx context.Context, db *database) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, schema+db.keyTable)
		return err
	}, dbscope.Name("schema"))
}

// stockStore keeps the articles.
type stockStore struct{ db *sqlscope.DB }

// Take looks and takes in one statement: of many who want the last piece, one
// gets it.
func (s stockStore) Take(ctx context.Context, sku string, n int) error {
	res, err := s.db.ExecContext(ctx,
		`update stock set quantity = quantity - $1 where sku = $2 and quantity >= $1`, n, sku)
	if err != nil {
		return fmt.Errorf("taking %s from the stock: %w", sku, err)
	}
	if taken, err := res.RowsAffected(); err != nil || taken == 1 {
		return err
	}
	return s.whyNot(ctx, sku)
}

func (s stockStore) whyNot(ctx context.Context, sku string) error {
	var left int
	err := s.db.QueryRowContext(ctx, `select quantity from stock where sku = $1`, sku).Scan(&left)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%w: %s", ErrUnknownSKU, sku)
	case err != nil:
		return fmt.Errorf("looking for %s in the stock: %w", sku, err)
	}
	return fmt.Errorf("%w: %d of %s left", ErrOutOfStock, left, sku)
}

func (s stockStore) GiveBack(ctx context.Context, sku string, n int) error {
	_, err := s.db.ExecContext(ctx, `update stock set quantity = quantity + $1 where sku = $2`, n, sku)
	if err != nil {
		return fmt.Errorf("giving %s back to the stock: %w", sku, err)
	}
	return nil
}

// Article is one that the shop sells.
type Article struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

func (s stockStore) All(ctx context.Context) ([]Article, error) {
	rows, err := s.db.QueryContext(ctx, `select sku, quantity from stock order by sku`)
	if err != nil {
		return nil, fmt.Errorf("reading the stock: %w", err)
	}
	return collect(rows, func(scan func(...any) error) (a Article, err error) {
		err = scan(&a.SKU, &a.Quantity)
		return a, err
	})
}

// orderStore keeps the orders.
type orderStore struct{ db *sqlscope.DB }

const orderColumns = `id, customer, sku, quantity, status, placed_at`

// scanOrder reads orderColumns from a row.
func scanOrder(scan func(...any) error) (o Order, err error) {
	err = scan(&o.ID, &o.Customer, &o.SKU, &o.Quantity, &o.Status, &o.PlacedAt)
	return o, err
}

func (s orderStore) Insert(ctx context.Context, o Order) error {
	_, err := s.db.ExecContext(ctx, `insert into orders (`+orderColumns+`) values ($1, $2, $3, $4, $5, $6)`,
		o.ID, o.Customer, o.SKU, o.Quantity, o.Status, o.PlacedAt)
	if err != nil {
		return fmt.Errorf("storing an order: %w", err)
	}
	return nil
}

// Cancel changes the status only where it is not changed yet: of two who
// cancel at once, one gives the pieces back.
func (s orderStore) Cancel(ctx context.Context, id string) (Order, error) {
	o, err := scanOrder(s.db.QueryRowContext(ctx,
		`update orders set status = $1 where id = $2 and status <> $1 returning `+orderColumns, cancelled, id).Scan)
	switch {
	case err == nil:
		return o, nil
	case !errors.Is(err, sql.ErrNoRows):
		return Order{}, fmt.Errorf("cancelling order %s: %w", id, err)
	}
	if _, err := s.Get(ctx, id); err != nil {
		return Order{}, err
	}
	return Order{}, fmt.Errorf("%w: %s", ErrAlreadyCancelled, id)
}

func (s orderStore) Get(ctx context.Context, id string) (Order, error) {
	o, err := scanOrder(s.db.QueryRowContext(ctx, `select `+orderColumns+` from orders where id = $1`, id).Scan)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Order{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	case err != nil:
		return Order{}, fmt.Errorf("reading order %s: %w", id, err)
	}
	return o, nil
}

func (s orderStore) List(ctx context.Context, before string, limit int) ([]Order, error) {
	rows, err := s.db.QueryContext(ctx, `select `+orderColumns+` from orders
		where $1 = '' or id < $1 order by id desc limit $2`, before, limit)
	if err != nil {
		return nil, fmt.Errorf("listing orders: %w", err)
	}
	return collect(rows, scanOrder)
}

// Event is something that happened to an order.
type Event struct {
	Action string    `json:"action"`
	At     time.Time `json:"at"`
}

// auditStore keeps the events.
type auditStore struct{ db *sqlscope.DB }

func (s auditStore) Write(ctx context.Context, orderID, action string) error {
	_, err := s.db.ExecContext(ctx, `insert into audit (id, order_id, action, at) values ($1, $2, $3, $4)`,
		newID(), orderID, action, now())
	if err != nil {
		return fmt.Errorf("writing the audit of order %s: %w", orderID, err)
	}
	return nil
}

func (s auditStore) Of(ctx context.Context, orderID string) ([]Event, error) {
	rows, err := s.db.QueryContext(ctx, `select action, at from audit where order_id = $1 order by at, id`, orderID)
	if err != nil {
		return nil, fmt.Errorf("reading the audit of order %s: %w", orderID, err)
	}
	return collect(rows, func(scan func(...any) error) (e Event, err error) {
		err = scan(&e.Action, &e.At)
		return e, err
	})
}

// collect reads all rows and closes them: until then they keep the session
// busy.
func collect[T any](rows *sql.Rows, read func(scan func(...any) error) (T, error)) ([]T, error) {
	defer func() { _ = rows.Close() }() // Err has told what it could
	all := []T{}                        // in JSON none is [], not null
	for rows.Next() {
		one, err := read(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
