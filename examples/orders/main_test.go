package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // some requests are meant to fail
	os.Exit(pgtest.Main(m).Run())
}

// service is the service as its clients see it, and the database behind it.
type service struct {
	*httptest.Server
	db *database
}

// onEachDatabase runs a test against a service of its own on each database.
func onEachDatabase(t *testing.T, test func(*testing.T, *service)) {
	t.Run("SQLite", func(t *testing.T) {
		test(t, start(t, open(t, "", "", filepath.Join(t.TempDir(), "a file?.db"))))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		test(t, start(t, open(t, pgtest.Shared(t).CreateDatabase(t), "", "")))
	})
}

func open(t *testing.T, databaseURL, hosts, file string) *database {
	t.Helper()
	db, err := openDatabase(databaseURL, hosts, file)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func start(t *testing.T, db *database) *service {
	t.Helper()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := createSchema(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	s := &service{httptest.NewServer(newHandler(t.Context(), db)), db}
	t.Cleanup(s.Close)
	return s
}

// call sends a request and reads the answer into out, unless that is nil. It
// is for goroutines too, and so must not end the test.
func (s *service) call(t *testing.T, method, path string, body io.Reader, out any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, body)
	if err != nil {
		t.Error(err)
		return 0
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer closeIt(t, resp.Body)
	if out == nil {
		out = new(any)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Errorf("%s %s: the answer is not JSON: %v", method, path, err)
	}
	return resp.StatusCode
}

func (s *service) place(t *testing.T, wish Wish, out any) int {
	t.Helper()
	body, err := json.Marshal(wish)
	if err != nil {
		t.Error(err)
	}
	return s.call(t, http.MethodPost, "/orders", bytes.NewReader(body), out)
}

// mustPlace places an order that there is no reason to refuse.
func (s *service) mustPlace(t *testing.T, wish Wish) Order {
	t.Helper()
	var o Order
	if status := s.place(t, wish, &o); status != http.StatusCreated {
		t.Fatalf("placing an order answers %d, want 201", status)
	}
	return o
}

// exec changes the database behind the service's back.
func (s *service) exec(t *testing.T, statement string) {
	t.Helper()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, statement)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// count asks the database, not the service.
func (s *service) count(t *testing.T, query string) (n int) {
	t.Helper()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		return s.db.QueryRowContext(ctx, query).Scan(&n)
	}, dbscope.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkStored compares what is in the database with what should be.
func (s *service) checkStored(t *testing.T, orders, audits, tea int) {
	t.Helper()
	checkEqual(t, "orders", s.count(t, `select count(*) from orders`), orders)
	checkEqual(t, "audit rows", s.count(t, `select count(*) from audit`), audits)
	checkEqual(t, "tea in stock", s.count(t, `select quantity from stock where sku = 'tea'`), tea)
}

func checkEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func closeIt(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

const fullStock = 1_000_000 // see schema.sql
