package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dbscope/dbscope/driver/sqlscope"
)

// What can stand in the way of an order. Whoever calls Shop tells them apart
// with errors.Is.
var (
	ErrInvalid          = errors.New("invalid order")
	ErrUnknownSKU       = errors.New("no such article")
	ErrOutOfStock       = errors.New("out of stock")
	ErrNotFound         = errors.New("no such order")
	ErrAlreadyCancelled = errors.New("the order is cancelled already")
)

// Order is a customer's order of some pieces of one article.
type Order struct {
	ID       string    `json:"id"`
	Customer string    `json:"customer"`
	SKU      string    `json:"sku"`
	Quantity int       `json:"quantity"`
	Status   string    `json:"status"`
	PlacedAt time.Time `json:"placed_at"`
}

// The states of an order.
const (
	placed    = "placed"
	cancelled = "cancelled"
)

// Wish is what a customer asks for.
type Wish struct {
	Customer string `json:"customer"`
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

const (
	maxName     = 100
	maxQuantity = 1000
)

// Validate needs no database, so that a bad request costs none.
func (w Wish) Validate() error {
	switch {
	case strings.TrimSpace(w.Customer) == "" || len(w.Customer) > maxName:
		return fmt.Errorf("%w: customer must have 1 to %d bytes", ErrInvalid, maxName)
	case strings.TrimSpace(w.SKU) == "" || len(w.SKU) > maxName:
		return fmt.Errorf("%w: sku must have 1 to %d bytes", ErrInvalid, maxName)
	case w.Quantity < 1 || w.Quantity > maxQuantity:
		return fmt.Errorf("%w: quantity must be 1 to %d, not %d", ErrInvalid, maxQuantity, w.Quantity)
	}
	return nil
}

// Shop is what the service does. No method takes or begins a transaction:
// whatever runs with one context is one unit of work, and whoever made the
// context (the middleware, or dbscope.Run) commits it, or undoes it after an
// error. That is why Place can be an HTTP request of its own and a line of an
// import alike.
type Shop struct {
	orders orderStore
	stock  stockStore
	audit  auditStore
}

// NewShop makes a shop of a database. It opens nothing.
func NewShop(db *sqlscope.DB) *Shop {
	return &Shop{orders: orderStore{db}, stock: stockStore{db}, audit: auditStore{db}}
}

// Place takes the pieces out of the stock and stores the order.
func (s *Shop) Place(ctx context.Context, wish Wish) (Order, error) {
	if err := wish.Validate(); err != nil {
		return Order{}, err
	}
	if err := s.stock.Take(ctx, wish.SKU, wish.Quantity); err != nil {
		return Order{}, err
	}
	o := Order{
		ID: newID(), Customer: wish.Customer, SKU: wish.SKU, Quantity: wish.Quantity,
		Status: placed, PlacedAt: now(),
	}
	if err := s.orders.Insert(ctx, o); err != nil {
		return Order{}, err
	}
	return o, s.audit.Write(ctx, o.ID, placed)
}

// Cancel marks the order and gives its pieces back to the stock.
func (s *Shop) Cancel(ctx context.Context, id string) (Order, error) {
	o, err := s.orders.Cancel(ctx, id)
	if err != nil {
		return Order{}, err
	}
	if err := s.stock.GiveBack(ctx, o.SKU, o.Quantity); err != nil {
		return Order{}, err
	}
	return o, s.audit.Write(ctx, o.ID, cancelled)
}

// Show returns an order and what happened to it.
func (s *Shop) Show(ctx context.Context, id string) (Order, []Event, error) {
	o, err := s.orders.Get(ctx, id)
	if err != nil {
		return Order{}, nil, err
	}
	events, err := s.audit.Of(ctx, id)
	return o, events, err
}

// List returns at most limit orders, the newest first, that were placed before
// the given one, or before now where before is empty.
func (s *Shop) List(ctx context.Context, before string, limit int) ([]Order, error) {
	return s.orders.List(ctx, before, limit)
}

// Stock returns how many pieces there are of each article.
func (s *Shop) Stock(ctx context.Context) ([]Article, error) { return s.stock.All(ctx) }

// newID makes an id that nobody can guess and that sorts by time, so that
// paging by id is paging by age.
func newID() string {
	return strings.ToLower(fmt.Sprintf("%014x%s", time.Now().UnixMicro(), rand.Text()[:16]))
}

// now is what both databases can store without loss.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
