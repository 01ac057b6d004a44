// Package shoptest asks the same of all the small shops among the examples,
// whichever framework and library each is made with.
package shoptest

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope/internal/pgtest"
)

// Order is an order as a shop shows it.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Client is how a test talks to a shop.
type Client interface {
	// Place returns the order that was placed. What the shop says instead, in the
	// way of its framework, is ErrRefused or ErrInvalid.
	Place(ctx context.Context, customer, sku string, quantity int) (Order, error)
	Orders(ctx context.Context) ([]Order, error)
}

// What a shop may say to an order.
var (
	ErrRefused = errors.New("the shop has not got that many")
	ErrInvalid = errors.New("the shop does not understand the order")
)

// Databases runs a test on an empty database of each kind. The dsn is what the
// DATABASE_URL of an example may be, or the path of its SQLite file.
func Databases(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "shop.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, pgtest.Shared(t).CreateDatabase(t)) })
}

// Placed is how many orders Check leaves.
const Placed = 2

// Check goes through the life of a shop that has sold nothing yet, and has 1000
// cups of tea and one last cup.
func Check(t *testing.T, shop Client) {
	t.Helper()
	ctx := t.Context()
	tea, err := shop.Place(ctx, "ada", "tea", 999)
	if err != nil {
		t.Fatalf("placing an order: %v", err)
	}
	// The shop stores an order before it takes its pieces from the stock, so
	// that these are refused when a row of theirs is there already.
	for _, sku := range []string{"tea", "unicorn"} {
		if _, err := shop.Place(ctx, "eve", sku, 2); !errors.Is(err, ErrRefused) {
			t.Errorf("2 of %s: the error is %v, want %v", sku, err, ErrRefused)
		}
	}
	if _, err := shop.Place(ctx, "eve", "tea", 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("0 cups of tea: the error is %v, want %v", err, ErrInvalid)
	}
	want := []Order{tea, lastCup(t, shop)}
	got, err := shop.Orders(ctx)
	if err != nil {
		t.Fatalf("listing the orders: %v", err)
	}
	byCustomer := func(a, b Order) int { return strings.Compare(a.Customer, b.Customer) }
	if slices.SortFunc(got, byCustomer); !slices.Equal(got, want) {
		t.Errorf("the orders are %v, want %v", got, want)
	}
}

// lastCup lets several customers ask for the last cup at once: one gets it.
func lastCup(t *testing.T, shop Client) Order {
	t.Helper()
	var all sync.WaitGroup
	orders := make(chan Order, 4)
	for range cap(orders) {
		all.Go(func() {
			o, err := shop.Place(t.Context(), "bob", "last-cup", 1)
			switch {
			case err == nil:
				orders <- o
			case !errors.Is(err, ErrRefused):
				t.Errorf("the last cup: %v", err)
			}
		})
	}
	all.Wait()
	if len(orders) != 1 {
		t.Fatalf("%d customers got the last cup", len(orders))
	}
	return <-orders
}

// CheckStored asks the database itself, apart from the code under test, how many
// orders it has.
func CheckStored(t *testing.T, dsn string, want int) {
	t.Helper()
	driver := "sqlite"
	if strings.HasPrefix(dsn, "postgres") {
		driver = "pgx"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	var got int
	err = db.QueryRowContext(t.Context(), "select count(*) from orders").Scan(&got)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%d orders are stored, want %d", got, want)
	}
}
