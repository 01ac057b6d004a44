package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/examples/sqlc/shop"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(pgtest.Main(m).Run())
}

// runMain makes this test binary the example itself.
const runMain = "DBSCOPE_EXAMPLE_MAIN"

var (
	_ shop.DBTX = (*pgxscope.DB)(nil)

	errOnPurpose = errors.New("on purpose")
)

func TestASucceedingUnitStoresAll(t *testing.T) {
	f := openShop(t)
	f.mustRun(t, func(ctx context.Context) error {
		return errors.Join(
			f.place(ctx, "ada", map[string]int32{"tea": 1, "cake": 2}),
			f.place(ctx, "bob", map[string]int32{"tea": 3}),
		)
	})
	f.checkStored(t, "2 orders, 3 lines, stock [{cake 8} {tea 6}]")
}

func TestAUnitSeesItsOwnRowsAndOthersDoNot(t *testing.T) {
	f := openShop(t)
	f.mustRun(t, func(ctx context.Context) error {
		if err := f.place(ctx, "ada", map[string]int32{"tea": 1}); err != nil {
			return err
		}
		n, err := f.queries.CountLines(ctx)
		if n != 1 {
			t.Errorf("the unit sees %d lines, want 1", n)
		}
		f.checkStored(t, "0 orders, 0 lines, stock [{cake 10} {tea 10}]")
		return err
	})
}

func TestAFailingUnitStoresNothing(t *testing.T) {
	const nothing = "0 orders, 0 lines, stock [{cake 10} {tea 10}]"
	good := map[string]int32{"tea": 1, "cake": 2}
	tests := map[string]struct {
		end  func(context.Context, store) error
		want error // nil: the database's
	}{
		"its function fails after all": {
			end:  func(context.Context, store) error { return errOnPurpose },
			want: errOnPurpose,
		},
		"a statement of its batch fails": { // the update before it has worked
			end: func(ctx context.Context, s store) error {
				return s.place(ctx, "eve", map[string]int32{"cake": 1, "tea": 100})
			},
			want: errOutOfStock,
		},
		"its copy fails": { // no such article
			end: func(ctx context.Context, s store) error {
				return s.place(ctx, "eve", map[string]int32{"tea": 1, "unicorn": 1})
			},
		},
		"the error of its batch is dropped": {
			end: func(ctx context.Context, s store) error {
				_ = s.place(ctx, "eve", map[string]int32{"tea": 100})
				return nil
			},
			want: dbscope.ErrRolledBack,
		},
		"the error of its copy is dropped": {
			end: func(ctx context.Context, s store) error {
				_ = s.place(ctx, "eve", map[string]int32{"unicorn": 1})
				return nil
			},
			want: dbscope.ErrRolledBack,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := openShop(t)
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := f.place(ctx, "ada", good); err != nil {
					t.Error(err)
				}
				return test.end(ctx, f.store)
			})
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("the unit ends with %v, want %v", err, test.want)
			}
			f.checkStored(t, nothing)
		})
	}
}

func TestABatchOrACopyMayBeAUnitsFirstStatement(t *testing.T) {
	f := openShop(t)
	var id int64
	f.mustRun(t, func(ctx context.Context) (err error) {
		id, err = f.queries.InsertOrder(ctx, "ada")
		return err
	})
	line := []shop.InsertLinesParams{{OrderID: id, Sku: "tea", Quantity: 1}}
	for _, end := range []error{errOnPurpose, nil} {
		for _, first := range []func(context.Context) error{
			func(ctx context.Context) error {
				return f.take(ctx, []shop.TakeFromStockParams{{Sku: "tea", Quantity: 1}})
			},
			func(ctx context.Context) error { _, err := f.queries.InsertLines(ctx, line); return err },
		} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := first(ctx); err != nil {
					t.Error(err)
				}
				return end
			})
			if !errors.Is(err, end) {
				t.Errorf("the unit ends with %v, want %v", err, end)
			}
		}
	}
	f.checkStored(t, "1 orders, 1 lines, stock [{cake 10} {tea 9}]")
}

func TestWithoutAUnitNoStatementRuns(t *testing.T) {
	f := openShop(t)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"exec":  func() error { return f.queries.FillStock(ctx, shop.FillStockParams{Sku: "tea"}) },
		"one":   func() error { _, err := f.queries.CountLines(ctx); return err },
		"many":  func() error { _, err := f.queries.Stock(ctx); return err },
		"batch": func() error { return f.take(ctx, []shop.TakeFromStockParams{{Sku: "tea", Quantity: 1}}) },
		"copy":  func() error { _, err := f.queries.InsertLines(ctx, nil); return err },
	} {
		if err := call(); !errors.Is(err, dbscope.ErrNoScope) {
			t.Errorf("%s: %v, want %v", name, err, dbscope.ErrNoScope)
		}
	}
	f.checkStored(t, "0 orders, 0 lines, stock [{cake 10} {tea 10}]")
}

func TestTheExamplePrintsWhatItDid(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), runMain+"=yes", "DATABASE_URL="+pgtest.Shared(t).CreateDatabase(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("it ends with %v", err)
	}
	want := `tea and 2 cakes: stored
  1 orders, 2 lines, stock [{cake 8} {tea 9}]
tea and 100 cakes: nothing stored: out of stock: taking cake from the stock: *
  1 orders, 2 lines, stock [{cake 8} {tea 9}]
tea and 3 cakes: stored
  2 orders, 4 lines, stock [{cake 5} {tea 8}]
`
	before, after, _ := strings.Cut(want, "*")
	if got := string(out); !strings.HasPrefix(got, before) || !strings.HasSuffix(got, after) {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}

func TestWithoutADatabaseTheExampleSaysWhatItNeeds(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), runMain+"=yes", "DATABASE_URL=")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("set DATABASE_URL")) {
		t.Errorf("it ends with %v and prints %q", err, out)
	}
}

// fixture is a shop with ten of each article, and its database.
type fixture struct {
	store
	server *pgtest.Server
	dsn    string
}

func openShop(t *testing.T) fixture {
	t.Helper()
	f := fixture{server: pgtest.Shared(t)}
	f.dsn = f.server.CreateDatabase(t)
	db := pgxscope.Open(f.dsn)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f.store = newStore(db)
	if err := errors.Join(createSchema(t.Context(), db), f.open(t.Context())); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fixture) mustRun(t *testing.T, fn func(context.Context) error) {
	t.Helper()
	if err := dbscope.Run(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// checkStored asks the database apart from the code under test.
func (f fixture) checkStored(t *testing.T, want string) {
	t.Helper()
	got := f.server.Query(t, f.dsn, `select format('%s orders, %s lines, stock [%s]',
		(select count(*) from orders),
		(select count(*) from order_lines),
		(select string_agg(format('{%s %s}', sku, quantity), ' ' order by sku) from stock))`)
	if got != want {
		t.Errorf("stored: %s\nwant: %s", got, want)
	}
}
