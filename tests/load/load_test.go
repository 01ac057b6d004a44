package load_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

var ok = check.OK

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	connections = 4
	requests    = 10_000
)

// service is a server whose requests each store one row: GET /?id=N&status=S.
type service struct {
	db     *sqlscope.DB
	url    string
	client *http.Client
	arrive func() // called by each request in the handler
}

func serve(t *testing.T, driver, dsn string) *service {
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		pool, err := sql.Open(driver, dsn)
		if err != nil {
			return nil, err
		}
		pool.SetMaxOpenConns(connections)
		return pool, nil
	})
	pool, err := db.Engine(t.Context())
	ok(t, err)
	_, err = pool.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY)")
	ok(t, err)
	t.Cleanup(func() { ok(t, db.Close()) }) // after the server
	s := &service{db: db, arrive: func() {}}
	s.url, s.client = start(t, requests, func(w http.ResponseWriter, r *http.Request) {
		s.arrive()
		if _, err := db.ExecContext(r.Context(), "INSERT INTO t (id) VALUES ($1)", r.FormValue("id")); err != nil {
			http.Error(w, "cannot store", http.StatusServiceUnavailable)
			return
		}
		status, err := strconv.Atoi(r.FormValue("status"))
		if err != nil {
			panic(err)
		}
		w.WriteHeader(status)
	})
	return s
}

// start starts a server each of whose requests is a unit, and a client for so
// many at once.
func start(t *testing.T, requests int, h http.HandlerFunc) (url string, client *http.Client) {
	quiet := httpscope.OnError(func(r *http.Request, err error) { slog.Debug("unit failed", "error", err) })
	server := httptest.NewUnstartedServer(httpscope.Middleware(quiet)(h))
	// HTTP/2, so that the requests need no file descriptors of their own.
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	server.Config.Protocols = &h2
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: requests}
	server.Start()
	client = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{Protocols: &h2}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
	})
	return server.URL, client
}

func (s *service) store(id, status int) (int, error) {
	res, err := s.client.Get(fmt.Sprintf("%s/?id=%d&status=%d", s.url, id, status))
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}

func (s *service) stored(t *testing.T) map[int]bool {
	pool, err := s.db.Engine(t.Context())
	ok(t, err)
	rows, err := pool.Query("SELECT id FROM t")
	ok(t, err)
	ids := map[int]bool{}
	for rows.Next() {
		var id int
		ok(t, rows.Scan(&id))
		ids[id] = true
	}
	ok(t, rows.Err())
	if n := pool.Stats().InUse; n != 0 {
		t.Errorf("%d connections are in use", n)
	}
	return ids
}

// Every third request says that it failed.
func TestTenThousandRequestsAtOnceOverFourConnectionsAreAllAnsweredAndNoneLost(t *testing.T) {
	pg := pgtest.Start(t)
	for name, open := range map[string]func(t *testing.T) (driver, dsn string){
		"SQLite": func(t *testing.T) (string, string) {
			return "sqlite", "file:" + filepath.Join(t.TempDir(), "load.db") +
				"?_pragma=busy_timeout(60000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"
		},
		"PostgreSQL": func(t *testing.T) (string, string) { return "pgx", pg.CreateDatabase(t) },
	} {
		t.Run(name, func(t *testing.T) {
			driver, dsn := open(t)
			s := serve(t, driver, dsn)
			var wg, all sync.WaitGroup
			all.Add(requests)
			s.arrive = func() { all.Done(); all.Wait() } // now they are all here
			for id := range requests {
				status := http.StatusOK
				if id%3 == 0 {
					status = http.StatusConflict
				}
				wg.Go(func() {
					if got, err := s.store(id, status); err != nil || got != status {
						t.Errorf("request %d: status %d, %v", id, got, err)
					}
				})
			}
			wg.Wait()
			ids := s.stored(t)
			for id := range requests {
				if ids[id] != (id%3 != 0) {
					t.Fatalf("row %d is stored: %v", id, ids[id])
				}
			}
			if name == "PostgreSQL" {
				if n := pg.Query(t, pg.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"); n != "0" {
					t.Errorf("%s sessions are idle in a transaction", n)
				}
			}
		})
	}
}

func TestKillingPostgreSQLUnderLoadLosesNoAnsweredRowAndTheServiceRecovers(t *testing.T) {
	pg := pgtest.Start(t)
	s := serve(t, "pgx", pg.CreateDatabase(t))
	var (
		mu       sync.Mutex
		answered = map[int]int{} // the status for each row
		next     atomic.Int64
		done     = make(chan struct{})
		wg       sync.WaitGroup
	)
	count := func(good bool) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, status := range answered {
			if (status == http.StatusOK) == good {
				n++
			}
		}
		return n
	}
	for range 32 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				id := int(next.Add(1))
				status, err := s.store(id, http.StatusOK)
				if err != nil {
					t.Errorf("request %d was not answered: %v", id, err)
					return
				}
				mu.Lock()
				answered[id] = status
				mu.Unlock()
			}
		})
	}
	for range 3 {
		before := count(true)
		drivertest.Eventually(t, "the service stores rows", func() bool { return count(true) > before+50 })
		failed := count(false)
		pg.Kill()
		drivertest.Eventually(t, "requests notice", func() bool { return count(false) > failed })
		pg.Restart(t)
	}
	before := count(true)
	drivertest.Eventually(t, "the service stores rows again", func() bool { return count(true) > before+50 })
	close(done)
	wg.Wait()
	ids := s.stored(t)
	stored := 0
	for id, status := range answered {
		if status == http.StatusOK {
			stored++
			if !ids[id] {
				t.Errorf("row %d was answered with 200 and is not stored", id)
			}
		}
	}
	t.Logf("%d rows answered with 200, %d requests with an error, %d rows stored", stored, len(answered)-stored, len(ids))
}
