// Package page has the code of docs/vet.md, as it is there but for the comments with what is
// found.
package page

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/bcrypt"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

var (
	shop  = pgxscope.Open("postgres://app@127.0.0.1/shop")
	other *http.Client
)

func charge(req *http.Request) error {
	resp, err := other.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func insert(ctx context.Context, item string) error {
	_, err := shop.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}

func takeStock(ctx context.Context, item string) error {
	_, err := shop.Exec(ctx, `UPDATE stock SET n = n - 1 WHERE item = $1`, item)
	return err
}

func placeOrder(ctx context.Context, pool *pgxpool.Pool, item string) error {
	if err := takeStock(ctx, item); err != nil {
		return err
	}
	_, err := pool.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, item) // want `Exec of pool runs outside of the unit`
	return err
}

func placeAll(ctx context.Context, items []string) error {
	return shop.Atomic(ctx, func(block context.Context) error {
		for _, item := range items {
			if err := insert(ctx, item); err != nil { // want `the function of a unit uses the context from outside of it`
				return err
			}
		}
		return nil
	})
}

func handle(w http.ResponseWriter, r *http.Request) {
	if err := insert(context.Background(), r.FormValue("item")); err != nil { // want `context.Background\(\) has no scope`
		http.Error(w, "cannot order", http.StatusConflict)
	}
}

type orders struct{ tx pgx.Tx }

func (o *orders) open(ctx context.Context) (err error) {
	o.tx, err = shop.Session(ctx) // want `o.tx keeps the handle of a session`
	return err
}

func placed(ctx context.Context, items []string) (done []string, err error) {
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		for _, item := range items {
			if err := insert(ctx, item); err != nil {
				return err
			}
			done = append(done, item) // want `done is outside of a function that is retried`
		}
		return nil
	}, dbscope.Retry(dbscope.RetryPolicy{}))
	return done, err
}

func placeBoth(ctx context.Context) error {
	errs := make(chan error)
	go func() { errs <- insert(ctx, "tea") }() // want `another goroutine uses the scope of ctx`
	if err := insert(ctx, "milk"); err != nil {
		return err
	}
	return <-errs
}

func register(ctx context.Context, name, password string) error {
	if _, err := shop.Exec(ctx, `INSERT INTO customers (name) VALUES ($1)`, name); err != nil {
		return err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost) // want `bcrypt.GenerateFromPassword runs while a transaction is open`
	if err != nil {
		return err
	}
	_, err = shop.Exec(ctx, `INSERT INTO passwords (name, hash) VALUES ($1, $2)`, name, hash)
	return err
}

func pay(ctx context.Context, item string, req *http.Request) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		if err := insert(ctx, item); err != nil {
			return err
		}
		//dbscopevet:ignore the order must not be stored if the payment fails, and that takes 20 ms
		return charge(req)
	})
}
