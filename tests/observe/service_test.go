package observe_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/observe"
	"github.com/dbscope/dbscope/observe/livescope"
	"github.com/dbscope/dbscope/observe/otelscope"
	"github.com/dbscope/dbscope/observe/slogscope"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

var ok = check.OK

// connections are those of the service's pool.
const connections = 4

// service is the orders service, with all observers.
type service struct {
	*httptest.Server
	t       *testing.T
	db      *sqlscope.DB
	pool    *sql.DB
	log     *journal
	live    *livescope.Page
	metrics *metric.ManualReader
	left    sync.WaitGroup // goroutines that outlive their requests
	meet    meeting        // of requests that come together
}

// handler is one of the service's.
type handler func(ctx context.Context, s *service, r *http.Request) error

// start starts the service with some of its handlers replaced, by their routes. All is
// observed with the defaults, but for what nobody seems to end, unless that is 0.
func start(t *testing.T, notEnded time.Duration, replaced map[string]handler, opts ...httpscope.Option) *service {
	t.Helper()
	s := &service{t: t, log: &journal{}, metrics: metric.NewManualReader()}
	dsn := pgtest.Shared(t).CreateDatabase(t)
	s.db = sqlscope.New(func(context.Context, string) (pool *sql.DB, err error) {
		if s.pool, err = sql.Open("pgx", dsn); err == nil {
			s.pool.SetMaxOpenConns(connections)
			s.pool.SetMaxIdleConns(connections)
		}
		return s.pool, err
	}, dbscope.Name("orders"), dbscope.Observe(s.observers(notEnded)))
	t.Cleanup(func() { ok(t, s.db.Close()) })
	schema, err := os.ReadFile("../../examples/orders/schema.sql")
	ok(t, err)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, string(schema))
		return err
	}, dbscope.Name("schema")))
	mux := http.NewServeMux()
	for route, h := range honest {
		if other := replaced[route]; other != nil {
			h = other
		}
		mux.Handle(route, s.answering(h))
	}
	unit := httpscope.Middleware(append([]httpscope.Option{
		httpscope.ReadOnlySafeMethods(), httpscope.ScopeOptions(dbscope.MaxConns(1)), httpscope.OnError(func(*http.Request, error) {}),
	}, opts...)...)
	s.Server = httptest.NewUnstartedServer(unit(mux))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // a handler is meant to panic
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *service) observers(notEnded time.Duration) observe.Observer {
	logged := []slogscope.Option{slogscope.Logger(slog.New(slog.NewJSONHandler(s.log, nil)))}
	var shown []livescope.Option
	measured := []otelscope.Option{otelscope.MeterProvider(metric.NewMeterProvider(metric.WithReader(s.metrics))), otelscope.System("postgresql")}
	if notEnded > 0 {
		logged = append(logged, slogscope.NotEnded(notEnded))
		shown = append(shown, livescope.NotEnded(notEnded))
		measured = append(measured, otelscope.NotEnded(notEnded))
	}
	s.live = livescope.New(shown...)
	return observe.Together(slogscope.New(logged...), s.live, otelscope.New(measured...))
}

// answering makes a handler of the server's. Whatever it fails with undoes its work.
func (s *service) answering(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch err := h(r.Context(), s, r); {
		case err == nil:
			w.WriteHeader(http.StatusOK)
		case errors.Is(err, sql.ErrNoRows):
			w.WriteHeader(http.StatusNotFound)
		default:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

// honest are the service's handlers.
var honest = map[string]handler{
	"POST /orders": func(ctx context.Context, s *service, r *http.Request) error {
		id := r.URL.Query().Get("id")
		if id == "" {
			id = rand.Text()
		}
		return s.place(ctx, id, "tea")
	},
	"GET /orders": func(ctx context.Context, s *service, _ *http.Request) error {
		_, err := s.list(ctx)
		return err
	},
	"GET /orders/{id}": func(ctx context.Context, s *service, r *http.Request) error {
		return s.show(ctx, r.PathValue("id"))
	},
	"POST /orders/{id}/cancel": func(ctx context.Context, s *service, r *http.Request) error {
		return s.cancel(ctx, r.PathValue("id"))
	},
	"POST /imports": func(ctx context.Context, s *service, r *http.Request) error {
		lines, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		for sku := range strings.FieldsSeq(string(lines)) {
			if err := s.place(ctx, rand.Text(), sku); err != nil {
				return err
			}
		}
		return nil
	},
	"GET /stock": func(ctx context.Context, s *service, _ *http.Request) error {
		_, err := s.strings(ctx, `select sku from stock order by sku`)
		return err
	},
}

func (s *service) exec(ctx context.Context, query string, args ...any) error {
	_, err := s.db.ExecContext(ctx, query, args...)
	return err
}

// strings reads a column of texts.
func (s *service) strings(ctx context.Context, query string, args ...any) (all []string, err error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

func (s *service) take(ctx context.Context, sku string) error {
	return s.exec(ctx, `update stock set quantity = quantity - 1 where sku = $1 and quantity >= 1`, sku)
}

func (s *service) insert(ctx context.Context, id, sku string) error {
	return s.exec(ctx, `insert into orders (id, customer, sku, quantity, status, placed_at) values ($1, 'ada', $2, 1, 'placed', now())`, id, sku)
}

func (s *service) audit(ctx context.Context, order, action string) error {
	return s.exec(ctx, `insert into audit (id, order_id, action, at) values ($1, $2, $3, now())`, rand.Text(), order, action)
}

func (s *service) place(ctx context.Context, id, sku string) error {
	if err := s.take(ctx, sku); err != nil {
		return err
	}
	if err := s.insert(ctx, id, sku); err != nil {
		return err
	}
	return s.audit(ctx, id, "placed")
}

func (s *service) cancel(ctx context.Context, id string) error {
	var sku string
	err := s.db.QueryRowContext(ctx, `update orders set status = 'cancelled' where id = $1 returning sku`, id).Scan(&sku)
	if err != nil {
		return err
	}
	if err := s.exec(ctx, `update stock set quantity = quantity + 1 where sku = $1`, sku); err != nil {
		return err
	}
	return s.audit(ctx, id, "cancelled")
}

func (s *service) list(ctx context.Context) ([]string, error) {
	return s.strings(ctx, `select id from orders order by id desc limit 20`)
}

func (s *service) show(ctx context.Context, id string) error {
	var status string
	if err := s.db.QueryRowContext(ctx, `select status from orders where id = $1`, id).Scan(&status); err != nil {
		return err
	}
	_, err := s.strings(ctx, `select action from audit where order_id = $1 order by at, id`, id)
	return err
}

// ask sends a request, which is its method and path, and returns the status.
func (s *service) ask(request string, body io.Reader) int {
	return s.askIn(s.t.Context(), request, body)
}

func (s *service) askIn(ctx context.Context, request string, body io.Reader) int {
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		return 0 // the handler has panicked
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode
}

// together sends n requests side by side, and returns when all have been answered.
func (s *service) together(n int, request func(i int) string) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { s.ask(request(i), nil) })
	}
	all.Wait()
}

// meeting lets those who wait go on once all have come.
type meeting struct {
	missing atomic.Int32
	all     chan struct{}
}

func (m *meeting) Wait() {
	if m.missing.Add(-1) == 0 {
		close(m.all)
	}
	<-m.all
}

// togetherMeeting sends n requests that differ in their id and meet in their handlers.
func (s *service) togetherMeeting(n int, request string) {
	s.meet.missing.Store(int32(n))
	s.meet.all = make(chan struct{})
	s.together(n, func(i int) string { return fmt.Sprint(request, "?id=", i) })
}

// fill stores orders, behind the observers' backs.
func (s *service) fill(orders int) {
	for i := range orders {
		_, err := s.pool.ExecContext(s.t.Context(), `insert into orders values ($1, 'ada', 'tea', 1, 'placed', now())`, fmt.Sprint("order ", i))
		ok(s.t, err)
	}
}

// journal is a log for several goroutines.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
