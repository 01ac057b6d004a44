package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/observe/heldscope"
)

// trouble does what a service should not do, so that one can see how it shows on
// the page /debug/dbscope and in the log. Whoever copies this service leaves out
// this file, its line in newHandler, and the last part of the page.
type trouble struct {
	shop *Shop
	db   *sqlscope.DB
}

func addTrouble(mux *http.ServeMux, shop *Shop, db *sqlscope.DB) {
	t := trouble{shop, db}
	for name, cause := range map[string]func(context.Context) error{
		"slow": t.slow, "idle": t.idle, "failed": t.failed, "repeated": t.repeated, "call": t.call,
	} {
		mux.Handle("POST /trouble/"+name, handler(func(w http.ResponseWriter, r *http.Request) error {
			if err := cause(r.Context()); err != nil {
				return err
			}
			return writeJSON(w, http.StatusOK, map[string]string{"trouble": name})
		}))
	}
}

// slow runs statements, each twice as long as the one before, for two seconds or
// more.
func (t trouble) slow(ctx context.Context) error {
	for began, most := time.Now(), 100_000; time.Since(began) < 2*time.Second; most *= 2 {
		var n int
		err := t.db.QueryRowContext(ctx,
			`with recursive n (i) as (select 1 union all select i + 1 from n where i < $1) select count(*) from n`, most).Scan(&n)
		if err != nil {
			return fmt.Errorf("counting to %d: %w", most, err)
		}
	}
	return nil
}

// idle does something else while its transaction is open. In other services that
// is a password being hashed, or a picture made smaller.
func (t trouble) idle(ctx context.Context) error {
	if _, err := t.shop.Stock(ctx); err != nil {
		return err
	}
	if err := somethingElse(ctx, 3*time.Second); err != nil {
		return err
	}
	_, err := t.shop.Stock(ctx)
	return err
}

// failed is a unit in a unit, with an order of an article that does not exist:
// the foreign key refuses it.
func (t trouble) failed(ctx context.Context) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		return t.shop.orders.Insert(ctx, Order{ID: newID(), Customer: "eve", SKU: "unicorn", Quantity: 1, Status: placed, PlacedAt: now()})
	}, dbscope.Name("order of a unicorn"))
}

// repeated asks for one row after the other, and not for all of them at once.
func (t trouble) repeated(ctx context.Context) error {
	for i := range 40 {
		if _, err := t.shop.audit.Of(ctx, fmt.Sprint("order ", i)); err != nil {
			return err
		}
	}
	return nil
}

// call asks another service for something while its transaction is open.
func (t trouble) call(ctx context.Context) error {
	if _, err := t.shop.Stock(ctx); err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://payments.example/charges", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: heldscope.Transport(payments{})}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// payments stands for a service elsewhere. No request leaves this process.
type payments struct{}

func (payments) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := somethingElse(r.Context(), 400*time.Millisecond); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
}

func somethingElse(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
