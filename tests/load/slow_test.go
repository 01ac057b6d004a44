package load_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// database is what the handlers need of an adapter.
type database interface {
	exec(ctx context.Context, query string) error
	each(ctx context.Context, query string, row func(text string) error) error
	inUse(t *testing.T) int
}

// shops open a pool of so many connections.
var shops = map[string]func(t *testing.T, dsn string, connections int) database{
	"sqlscope": func(t *testing.T, dsn string, connections int) database {
		db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
			pool, err := sql.Open("pgx", dsn)
			if err != nil {
				return nil, err
			}
			pool.SetMaxOpenConns(connections)
			return pool, nil
		})
		t.Cleanup(func() { ok(t, db.Close()) })
		return sqlShop{db}
	},
	"pgxscope": func(t *testing.T, dsn string, connections int) database {
		db := pgxscope.Open(fmt.Sprintf("%s&pool_max_conns=%d", dsn, connections))
		t.Cleanup(func() { ok(t, db.Close()) })
		return pgxShop{db}
	},
}

type sqlShop struct{ *sqlscope.DB }

func (db sqlShop) exec(ctx context.Context, query string) error {
	_, err := db.ExecContext(ctx, query)
	return err
}

func (db sqlShop) each(ctx context.Context, query string, row func(string) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		if err := errors.Join(rows.Scan(&text), row(text)); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (db sqlShop) inUse(t *testing.T) int {
	pool, err := db.Engine(t.Context())
	ok(t, err)
	return pool.Stats().InUse
}

type pgxShop struct{ *pgxscope.DB }

func (db pgxShop) exec(ctx context.Context, query string) error {
	_, err := db.Exec(ctx, query)
	return err
}

func (db pgxShop) each(ctx context.Context, query string, row func(string) error) error {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := errors.Join(rows.Scan(&text), row(text)); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (db pgxShop) inUse(t *testing.T) int {
	var pool *pgxpool.Pool
	pool, err := db.Pool(t.Context())
	ok(t, err)
	return int(pool.Stat().AcquiredConns())
}

// shop is a service some of whose clients are slow.
type shop struct {
	database
	*httptest.Server
	t *testing.T
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := s.exec(r.Context(), "SELECT 1")
	switch {
	case err != nil:
	case r.URL.Path == "/order":
		err = s.exec(r.Context(), "INSERT INTO orders VALUES ('honest')")
	case r.URL.Path == "/upload":
		if _, err = io.ReadAll(r.Body); err == nil {
			err = s.exec(r.Context(), "INSERT INTO orders VALUES ('uploaded')")
		}
	case r.URL.Path == "/large": // which is committed when it begins
		for part := make([]byte, 64<<10); err == nil; {
			_, err = w.Write(part)
		}
	case r.URL.Path == "/export":
		err = s.each(r.Context(), "SELECT repeat('x', 100000) FROM generate_series(1, 100000)", func(row string) error {
			_, err := io.WriteString(w, row)
			return err
		})
	}
	if err != nil {
		http.Error(w, "failed", http.StatusServiceUnavailable)
	}
}

// onShops runs a test over each adapter.
func onShops(t *testing.T, connections int, test func(*testing.T, *shop), around func(http.Handler) http.Handler) {
	pg := pgtest.Start(t)
	for name, open := range shops {
		t.Run(name, func(t *testing.T) {
			dsn := pg.CreateDatabase(t)
			pg.Query(t, dsn, "CREATE TABLE orders (who TEXT)")
			s := &shop{database: open(t, dsn, connections), t: t}
			s.Server = httptest.NewUnstartedServer(around(s))
			s.Config.ErrorLog = log.New(io.Discard, "", 0) // handlers answer what has begun
			s.Start()
			t.Cleanup(s.Close)
			test(t, s)
			drivertest.Eventually(t, "all connections are back", func() bool { return s.inUse(t) == 0 })
			if n := pg.Query(t, dsn, "SELECT count(*) FROM orders WHERE who = 'uploaded'"); n != "0" {
				t.Errorf("%s uploads are stored", n)
			}
		})
	}
}

func scoped(opts ...httpscope.Option) func(http.Handler) http.Handler {
	return httpscope.Middleware(append(opts, httpscope.ReadOnlySafeMethods(), httpscope.OnError(func(*http.Request, error) {}))...)
}

// attack begins requests of clients that are slow, and goes on with them until the
// test is over.
func (s *shop) attack(clients int, request string, trickles bool) {
	for range clients {
		conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.Listener.Addr().String())
		ok(s.t, err)
		_, err = io.WriteString(conn, request)
		ok(s.t, err)
		var sending sync.WaitGroup
		over := make(chan struct{})
		s.t.Cleanup(func() {
			close(over)
			_ = conn.Close()
			sending.Wait()
		})
		if trickles {
			sending.Go(func() {
				for _, err := io.WriteString(conn, "x"); err == nil; _, err = io.WriteString(conn, "x") {
					select {
					case <-over:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
			})
		}
	}
}

const (
	upload = "POST /upload HTTP/1.1\r\nHost: shop\r\nContent-Length: 10000\r\n\r\n"
	large  = "GET /large HTTP/1.1\r\nHost: shop\r\n\r\n"
	export = "GET /export HTTP/1.1\r\nHost: shop\r\n\r\n"
)

// wantHonestAnswered sends requests of clients that are not slow.
func (s *shop) wantHonestAnswered(requests int) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for n := range requests {
		wg.Go(func() {
			resp, err := client.Post(s.URL+"/order", "text/plain", strings.NewReader("one")) //nolint:noctx // the client has a timeout
			if err != nil {
				s.t.Errorf("request %d was not answered: %v", n, err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				s.t.Errorf("request %d: status %d", n, resp.StatusCode)
			}
		})
	}
	wg.Wait()
}

// The default of ClientTimeout would end the unit of nobody here in time.
func TestSlowClientsDoNotStopAServiceThatBuffersBodies(t *testing.T) {
	onShops(t, connections, func(_ *testing.T, s *shop) {
		s.attack(50, upload, true)
		s.attack(50, large, false)
		s.wantHonestAnswered(100)
	}, scoped(httpscope.BufferBody(1<<20)))
}

func TestSlowClientsDoNotStopAServiceThatBoundsHowLongTheyKeepConnections(t *testing.T) {
	onShops(t, connections, func(t *testing.T, s *shop) {
		s.attack(50, upload, true)
		s.attack(50, export, false)
		drivertest.Eventually(t, "the slow clients have all connections", func() bool { return s.inUse(t) == connections })
		s.wantHonestAnswered(100)
	}, scoped(httpscope.ClientTimeout(200*time.Millisecond)))
}

// A middleware outside sets the deadline, as docs/connections.md shows.
func TestTheDeadlineOfARequestEndsItsStatementsAndItsWaitForAConnection(t *testing.T) {
	const (
		slow    = "/slow"
		waiting = "/waiting"
	)
	results := make(chan error, 10)
	began := make(chan struct{})
	var s *shop
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := "SELECT 1"
		if r.URL.Path == slow {
			if err := s.exec(r.Context(), "INSERT INTO orders VALUES ('slow')"); err != nil {
				t.Error(err)
			}
			close(began)
			query = "SELECT pg_sleep(600)"
		}
		err := s.exec(r.Context(), query)
		results <- err
		if err != nil {
			http.Error(w, "too late", http.StatusServiceUnavailable)
		}
	})
	deadlines := map[string]time.Duration{slow: 2 * time.Second, waiting: 200 * time.Millisecond}
	onShops(t, 1, func(t *testing.T, on *shop) {
		s, began = on, make(chan struct{})
		get := func(path string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, http.NoBody)
			ok(t, err)
			resp, err := s.Client().Do(r)
			ok(t, err)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: status %d", path, resp.StatusCode)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { get(slow) })
		<-began
		get(waiting)
		wg.Wait()
		for range 2 {
			if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a statement returned %v", err)
			}
		}
	}, func(http.Handler) http.Handler {
		scoped := scoped()(handler)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), deadlines[r.URL.Path])
			defer cancel()
			scoped.ServeHTTP(w, r.WithContext(ctx))
		})
	})
}
