package readme

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/scopetest"
)

// TestPlaceOrder is of docs/testing.md.
func TestPlaceOrder(t *testing.T) {
	t.Parallel()
	ctx := scopetest.Rollback(t, shop)
	err := dbscope.Run(ctx, func(ctx context.Context) error { return placeOrder(ctx, "tea") })
	if err != nil {
		t.Fatal(err)
	}
	if n := scopetest.Count(ctx, shop, "orders"); n != 1 {
		t.Errorf("%d orders are stored", n)
	}
}

// TestPlaceOrderOfEach is of docs/testing.md.
func TestPlaceOrderOfEach(t *testing.T) {
	ctx := scopetest.Rollback(t, shop)
	if _, err := shop.ExecContext(scopetest.Fixture(ctx), `INSERT INTO stock VALUES ('tea', 1), ('coffee', 1)`); err != nil { // the fixture
		t.Fatal(err)
	}
	for _, item := range []string{"tea", "coffee"} {
		t.Run(item, func(t *testing.T) {
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				if err := placeOrder(ctx, item); err != nil {
					return err
				}
				if n := scopetest.Count(ctx, shop, "orders"); n != 1 {
					t.Errorf("%d orders are stored", n)
				}
				return dbscope.MarkRollback(ctx) // the next subtest finds the fixture as it was
			})
			if !errors.Is(err, dbscope.ErrRollbackOnly) {
				t.Error(err)
			}
		})
	}
}

// TestHandleOrder is of docs/testing.md.
func TestHandleOrder(t *testing.T) {
	t.Parallel()
	s := scopetest.Serve(t, httpscope.Middleware()(http.HandlerFunc(handleOrder)), shop)
	if _, err := shop.ExecContext(scopetest.Fixture(s.Context), `INSERT INTO stock VALUES ('tea', 1)`); err != nil { // a fixture
		t.Fatal(err)
	}
	resp, err := http.Post(s.URL+"?item=tea", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusCreated {
		t.Errorf("the answer is %s, %v", resp.Status, err)
	}
	if n := scopetest.Count(s.Context, shop, "orders"); n != 1 {
		t.Errorf("%d orders are stored", n)
	}
}

// TestWorker gives a worker, which runs until its context ends, the test's.
func TestWorker(t *testing.T) {
	ctx, stop := context.WithCancel(scopetest.Rollback(t, shop))
	done := make(chan error)
	go func() { done <- worker(ctx) }()
	// ... give it work, wait until that is done ...
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A queue that makes its contexts itself has a hook for them somewhere.
func testQueue(t *testing.T, queue *Queue) {
	testCtx := scopetest.Rollback(t, shop)
	queue.Context = func(ctx context.Context) context.Context { return scopetest.Attach(ctx, testCtx) }
}

// For a test's pool: a statement that is cancelled does not cost its connection.
func openForTests(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 16 // at least one for each parallel test
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 5 * time.Second}
	}
	pgxscope.Configure(config)
	return pgxpool.NewWithConfig(ctx, config)
}

// Queue stands for any library that runs functions of a program.
type Queue struct {
	Context func(context.Context) context.Context
}

func worker(ctx context.Context) error { return nightly(ctx) }

var _, _, _, _, _ = TestPlaceOrder, TestHandleOrder, TestWorker, testQueue, openForTests
