package slow

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/crypto/bcrypt"

	"shop/store"

	"github.com/dbscope/dbscope"
)

var shop = store.Shop

func hash(password string) ([]byte, error) {
	return bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
}

func between(ctx context.Context, password string) error {
	if err := store.Place(ctx, "tea"); err != nil {
		return err
	}
	if _, err := hash(password); err != nil { // want `bcrypt.GenerateFromPassword runs, in hash, while a transaction is open`
		return err
	}
	return store.Place(ctx, "tea")
}

func before(ctx context.Context, password string) error {
	if _, err := hash(password); err != nil {
		return err
	}
	return store.Place(ctx, "tea")
}

func last(ctx context.Context, client *http.Client, r *http.Request) error {
	if err := store.Place(ctx, "tea"); err != nil {
		return err
	}
	return store.Charge(client, r)
}

func inUnit(ctx context.Context, client *http.Client, r *http.Request) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		if err := store.Charge(client, r); err != nil {
			return err
		}
		if err := store.Place(ctx, "tea"); err != nil {
			return err
		}
		return store.Charge(client, r) // want `http.Client.Do runs, in store.Charge, while a transaction is open`
	})
}

func loop(ctx context.Context, items []string) error {
	for _, item := range items {
		time.Sleep(time.Second) // want `time.Sleep runs while a transaction is open`
		if err := store.Place(ctx, item); err != nil {
			return err
		}
	}
	return nil
}

func branches(ctx context.Context, r *http.Request, cash bool) error {
	if cash {
		if err := store.Place(ctx, "cash"); err != nil {
			return err
		}
	} else {
		if _, err := http.DefaultClient.Do(r); err != nil {
			return err
		}
	}
	return store.Place(ctx, "tea")
}

func released(ctx context.Context, r *http.Request) error {
	if err := store.Place(ctx, "tea"); err != nil {
		return err
	}
	if err := shop.Commit(ctx); err != nil {
		return err
	}
	if err := shop.Release(ctx); err != nil {
		return err
	}
	if _, err := http.DefaultClient.Do(r); err != nil {
		return err
	}
	return store.Place(ctx, "tea")
}

func committed(ctx context.Context, r *http.Request) error {
	if err := store.Place(ctx, "tea"); err != nil {
		return err
	}
	if _, err := http.DefaultClient.Do(r); err != nil { // want `http.Client.Do runs while a transaction is open`
		return err
	}
	return shop.Commit(ctx)
}

func afterwards(ctx context.Context, r *http.Request) error {
	if err := store.Place(ctx, "tea"); err != nil {
		return err
	}
	if err := dbscope.AfterCommit(ctx, func(context.Context) error {
		_, err := http.DefaultClient.Do(r)
		return err
	}); err != nil {
		return err
	}
	go http.DefaultClient.Do(r)
	return store.Place(ctx, "tea")
}

func units(ctx context.Context, r *http.Request) error {
	if err := store.Begins(ctx); err != nil {
		return err
	}
	if _, err := http.DefaultClient.Do(r); err != nil {
		return err
	}
	return store.Begins(ctx)
}

// Both units have a transaction open; it is said once.
func twice(ctx context.Context) error {
	return dbscope.Run(ctx, func(inner context.Context) error {
		if err := store.Place(inner, "tea"); err != nil {
			return err
		}
		//dbscopevet:ignore the outer unit shall be seen
		if err := store.Place(ctx, "tea"); err != nil {
			return err
		}
		time.Sleep(time.Second) // want `time.Sleep runs while a transaction is open`
		return nil
	})
}
