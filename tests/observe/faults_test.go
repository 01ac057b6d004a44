package observe_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/observe/heldscope"
)

// fault is one that is sown into the service.
type fault struct {
	name  string
	route string // of the handler that has it
	sown  handler
	found []string // the words for it

	ask  func(s *service) // where it needs more than one request of the route
	opts []httpscope.Option
	// elsewhere are the words for other units, which are not to blame.
	elsewhere words
}

var faults = []fault{
	{
		name: "a password is hashed after the first statement", route: "POST /orders", found: []string{"idle"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			if err := s.take(ctx, "tea"); err != nil {
				return err
			}
			time.Sleep(700 * time.Millisecond) // what bcrypt takes, on a machine that has other work too
			return s.insert(ctx, rand.Text(), "tea")
		},
	},
	{
		name: "the transaction is open while the body comes in", route: "POST /imports", found: []string{"idle"},
		sown: func(ctx context.Context, s *service, r *http.Request) error {
			if err := s.take(ctx, "tea"); err != nil {
				return err
			}
			_, err := io.ReadAll(r.Body)
			return err
		},
		ask: func(s *service) {
			body, client := io.Pipe()
			go func() {
				time.Sleep(700 * time.Millisecond)
				_, _ = io.WriteString(client, "tea")
				_ = client.Close()
			}()
			s.ask("POST /imports", body)
		},
	},
	{
		name: "a unit is begun by hand and never ended", route: "POST /imports",
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			ctx, scope := dbscope.Begin(context.WithoutCancel(dbscope.WithoutScope(ctx)), dbscope.Name("import"))
			s.t.Cleanup(func() { ok(s.t, scope.End(ctx)) })
			return s.take(ctx, "tea")
		},
		ask: func(s *service) {
			s.ask("POST /imports", nil)
			time.Sleep(1500 * time.Millisecond)
		},
		elsewhere: words{"import": {"idle": true, "not_ended": true}},
	},
	{
		name: "rows are read as fast as a slow client takes them", route: "GET /orders", found: []string{slow},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			s.fill(3)
			rows, err := s.db.QueryContext(ctx, `select id from orders`)
			if err != nil {
				return err
			}
			defer func() { _ = rows.Close() }()
			for rows.Next() {
				time.Sleep(400 * time.Millisecond) // the client's network
			}
			return rows.Err()
		},
	},
	{
		name: "a statement is slow", route: "GET /orders", found: []string{slow},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			_, err := s.strings(ctx, `select id from orders, pg_sleep(1.2)`) // an index is missing
			return err
		},
		ask: func(s *service) {
			s.fill(1)
			s.ask("GET /orders", nil)
		},
	},
	{
		name: "a query for each row of another", route: "GET /orders", found: []string{"repeated"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			for i := range 30 {
				if _, err := s.strings(ctx, `select action from audit where order_id = $1`, fmt.Sprint("order ", i)); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "the payment is asked for while the stock is locked", route: "POST /orders", found: []string{"call"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			if err := s.take(ctx, "tea"); err != nil {
				return err
			}
			return pay(ctx)
		},
	},
	{
		name: "rows are not closed", route: "GET /orders", found: []string{"left_open"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			s.fill(3)
			rows, err := s.db.QueryContext(ctx, `select id from orders`)
			if err != nil {
				return err
			}
			rows.Next()
			return nil
		},
	},
	{
		name: "a unit inside the unit takes a second connection", route: "POST /orders", found: []string{"connections"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			if err := s.take(ctx, "tea"); err != nil {
				return err
			}
			return dbscope.Run(ctx, func(ctx context.Context) error { return s.take(ctx, "coffee") })
		},
	},
	{
		name: "all do that, and each waits for the others' connections", route: "POST /orders", found: []string{"connections", failed + "dbscope.ErrPoolDeadlock", failed + "500"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			if _, err := s.list(ctx); err != nil {
				return err
			}
			s.meet.Wait()
			return dbscope.Run(ctx, func(ctx context.Context) error { return s.take(ctx, "coffee") })
		},
		ask: func(s *service) { s.togetherMeeting(connections, "POST /orders") },
	},
	{
		name: "reports have all connections", route: "GET /stock", found: []string{slow},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			_, err := s.strings(ctx, `select pg_sleep(2)::text`)
			return err
		},
		ask: func(s *service) {
			s.together(connections+1, func(i int) string {
				if i < connections {
					return "GET /stock"
				}
				for s.pool.Stats().InUse < connections {
					time.Sleep(time.Millisecond)
				}
				return "POST /orders"
			})
		},
		elsewhere: words{"POST /orders": {"wait": true, slow: true}},
	},
	{
		name: "connections of the pool itself are not given back", route: "POST /imports",
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			for range connections {
				conn, err := s.pool.Conn(context.WithoutCancel(ctx))
				if err != nil {
					return err
				}
				s.t.Cleanup(func() { ok(s.t, conn.Close()) })
			}
			return nil
		},
		ask: func(s *service) {
			s.ask("GET /stock", nil) // opens the pool
			s.ask("POST /imports", nil)
			ctx, cancel := context.WithTimeout(s.t.Context(), 1200*time.Millisecond)
			defer cancel()
			_ = dbscope.Run(ctx, func(ctx context.Context) error { return s.take(ctx, "tea") }, dbscope.Name("a victim"))
		},
		elsewhere: words{"a victim": {"wait": true, failed + "context.DeadlineExceeded": true}},
	},
	{
		name: "blocks are nested as deep as the data", route: "POST /imports", found: []string{"savepoints"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			var nested func(ctx context.Context, deep int) error
			nested = func(ctx context.Context, deep int) error {
				if err := s.take(ctx, "tea"); err != nil || deep == 0 {
					return err
				}
				return s.db.Atomic(ctx, func(ctx context.Context) error { return nested(ctx, deep-1) })
			}
			return nested(ctx, 70)
		},
	},
	{
		name: "conflicts, over and over", route: "POST /orders", found: []string{again, failed + "40001"},
		opts: []httpscope.Option{
			httpscope.Retry(dbscope.RetryPolicy{Attempts: 20, MinDelay: time.Millisecond}, 1<<10),
			httpscope.ScopeOptions(dbscope.Isolation(sql.LevelSerializable)),
		},
		sown: func(ctx context.Context, s *service, r *http.Request) error {
			var left int
			if err := s.db.QueryRowContext(ctx, `select quantity from stock where sku = 'tea'`).Scan(&left); err != nil {
				return err
			}
			s.meet.Wait()
			return s.exec(ctx, `update stock set quantity = $1 where sku = 'tea'`, left-1)
		},
		ask: func(s *service) { s.togetherMeeting(connections, "POST /orders") },
	},
	{
		name: "locks are taken in two orders", route: "POST /orders", found: []string{failed + "40P01", slow},
		sown: func(ctx context.Context, s *service, r *http.Request) error {
			order := []string{"tea", "coffee"}
			if r.URL.Query().Get("id") == "1" {
				order = []string{"coffee", "tea"}
			}
			if err := s.take(ctx, order[0]); err != nil {
				return err
			}
			s.meet.Wait()
			return s.take(ctx, order[1])
		},
		ask: func(s *service) { s.togetherMeeting(2, "POST /orders") },
	},
	{
		name: "the error of a statement is ignored", route: "POST /orders", found: []string{failed + "23503"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			_ = s.audit(ctx, "no such order", "placed")
			return nil
		},
	},
	{
		name: "a handler panics", route: "POST /orders", found: []string{failed + "panic"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			if err := s.take(ctx, "tea"); err != nil {
				return err
			}
			panic("the article is not in the catalogue")
		},
	},
	{
		name: "half of it is committed early, and the rest fails", route: "POST /orders", found: []string{mixed, failed + "23503"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			if err := errors.Join(s.take(ctx, "tea"), s.db.Commit(ctx)); err != nil {
				return err
			}
			return s.audit(ctx, "no such order", "placed")
		},
	},
	{
		name: "two goroutines use one unit", route: "GET /orders", found: []string{"busy"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { _, _ = s.strings(ctx, `select id from orders, pg_sleep(0.1)`) })
			}
			both.Wait()
			return nil
		},
	},
	{
		name: "a goroutine outlives its unit", route: "POST /orders", found: []string{"after_end"},
		sown: func(ctx context.Context, s *service, _ *http.Request) error {
			s.left.Go(func() {
				for isUnit := true; isUnit; _, isUnit = dbscope.FromContext(ctx) {
					time.Sleep(time.Millisecond)
				}
				_ = s.audit(ctx, "order 1", "placed")
			})
			return s.take(ctx, "tea")
		},
		ask: func(s *service) {
			s.ask("POST /orders", nil)
			s.left.Wait()
		},
	},
}

// pay asks another service, which answers at once.
func pay(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://payments.example/charges", strings.NewReader("{}"))
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

type payments struct{}

func (payments) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
}
