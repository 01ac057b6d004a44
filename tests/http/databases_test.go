// Package http_test runs httpscope as services run it: a real server and a
// real client over a real database.
package http_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

var must, eventually = check.OK, check.Eventually

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

// databases are those that the tests run on.
var databases = []struct {
	name, driver string
	dsn          func(t *testing.T) string
}{
	{"SQLite", "sqlite", func(t *testing.T) string {
		return "file:" + filepath.Join(t.TempDir(), "test.db") +
			"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate"
	}},
	{"PostgreSQL", "pgx", func(t *testing.T) string { return pgtest.Shared(t).CreateDatabase(t) }},
}

// service is a server with the middleware over a database with the table
//
//	orders (id, parent), parent a foreign key that is checked at COMMIT.
type service struct {
	t  *testing.T
	db *sqlscope.DB

	mu    sync.Mutex
	errs  []error
	ended chan struct{} // receives when the middleware has returned
}

// onEach runs a test on each database.
func onEach(t *testing.T, test func(*testing.T, *service)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			test(t, &service{t: t, db: open(t, d.driver, d.dsn(t)), ended: make(chan struct{}, 1000)})
		})
	}
}

func open(t *testing.T, driver, dsn string) *sqlscope.DB {
	t.Helper()
	db := sqlscope.Open(driver, dsn)
	t.Cleanup(func() { must(t, db.Close()) })
	engine, err := db.Engine(t.Context())
	must(t, err)
	engine.SetMaxOpenConns(4)
	_, err = engine.ExecContext(t.Context(), `CREATE TABLE orders (id INTEGER PRIMARY KEY,
		parent INTEGER REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)`)
	must(t, err)
	return db
}

// serve starts the server with the middleware between outside, where it is not
// nil, and the handler.
func (s *service) serve(h http.HandlerFunc, outside func(http.Handler) http.Handler, opts ...httpscope.Option) *httptest.Server {
	return s.start(h, outside, false, opts...)
}

func (s *service) start(h http.HandlerFunc, outside func(http.Handler) http.Handler, http2 bool, opts ...httpscope.Option) *httptest.Server {
	s.t.Helper()
	opts = append([]httpscope.Option{httpscope.OnError(func(_ *http.Request, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	})}, opts...)
	scoped := httpscope.Middleware(opts...)(h)
	var root http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { s.ended <- struct{}{} }()
		scoped.ServeHTTP(w, r)
	})
	if outside != nil {
		root = outside(root)
	}
	server := httptest.NewUnstartedServer(root)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are meant
	server.EnableHTTP2 = http2
	if http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	s.t.Cleanup(server.Close)
	return server
}

// onEachProtocol runs a test over HTTP/1.1 and HTTP/2.
func onEachProtocol(t *testing.T, test func(t *testing.T, s *service, http2 bool)) {
	onEach(t, func(t *testing.T, s *service) {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("HTTP 2 %t", http2), func(t *testing.T) {
				s.t = t
				_, err := s.engine().ExecContext(t.Context(), "DELETE FROM orders")
				must(t, err)
				s.errs = nil
				test(t, s, http2)
			})
		}
	})
}

func (s *service) engine() *sql.DB { return pool(s.t, s.db) }

func pool(t *testing.T, db *sqlscope.DB) *sql.DB {
	t.Helper()
	engine, err := db.Engine(context.Background())
	must(t, err)
	return engine
}

// place stores an order.
func (s *service) place(ctx context.Context, id int) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO orders (id) VALUES ($1)", id)
	return err
}

// placeLost stores an order whose parent does not exist, which fails at COMMIT.
func (s *service) placeLost(ctx context.Context, id int) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO orders (id, parent) VALUES ($1, 999999)", id)
	return err
}

// check is for handlers: it reports an error and answers 500.
func (s *service) check(w http.ResponseWriter, err error) bool {
	if err != nil {
		s.t.Errorf("in the handler: %v", err)
		http.Error(w, "failed", http.StatusInternalServerError)
	}
	return err == nil
}

// stored returns the ids that are committed.
func (s *service) stored() []int {
	s.t.Helper()
	return storedIn(s.t, s.engine())
}

func storedIn(t *testing.T, db *sql.DB) []int {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), "SELECT id FROM orders ORDER BY id")
	must(t, err)
	defer func() { _ = rows.Close() }()
	var ids []int
	for rows.Next() {
		var id int
		must(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	must(t, rows.Err())
	return ids
}

// wantStored checks what is committed, and that no connection is held.
func (s *service) wantStored(want ...int) {
	s.t.Helper()
	if got := s.stored(); !slices.Equal(got, want) {
		s.t.Errorf("the orders %v are stored, want %v", got, want)
	}
}

func (s *service) wantNoneInUse() {
	s.t.Helper()
	if n := s.engine().Stats().InUse; n != 0 {
		s.t.Errorf("%d connections are still in use", n)
	}
}

// wantErrors checks how many errors the hook was told, and that each is a
// failed commit.
func (s *service) wantErrors(n int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) != n {
		s.t.Errorf("the error hook was told %q, want %d errors", s.errs, n)
	}
	for _, err := range s.errs {
		if failure := (*dbscope.CommitError)(nil); !errors.As(err, &failure) {
			s.t.Errorf("the error hook was told %q", err)
		}
	}
}

// send sends a request and reads the answer.
func (s *service) send(server *httptest.Server, method, path string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, server.URL+path, http.NoBody)
	must(s.t, err)
	resp, err := server.Client().Do(r)
	must(s.t, err)
	body, err := io.ReadAll(resp.Body)
	must(s.t, errors.Join(err, resp.Body.Close()))
	return resp, string(body)
}

func (s *service) want(resp *http.Response, body string, wantStatus int, wantBody string) {
	s.t.Helper()
	if resp.StatusCode != wantStatus || body != wantBody {
		s.t.Errorf("the client got %d %.200q, want %d %.200q", resp.StatusCode, body, wantStatus, wantBody)
	}
}

const page = "Internal Server Error\n"
