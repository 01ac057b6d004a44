package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

//go:embed schema.sql
var schema string

// createSchema has a DB of its own: what is done for all tenants has none.
func createSchema(ctx context.Context, url string) (err error) {
	db := pgxscope.Open(url)
	defer func() { err = errors.Join(err, db.Close()) }()
	return dbscope.Run(ctx, func(ctx context.Context) error {
		_, err := db.Exec(ctx, schema)
		return err
	})
}

// tenantKey is the key of the tenant in a context.
type tenantKey struct{}

func withTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

var errNoTenant = errors.New("the context names no tenant")

// settings are those of each transaction, whoever begins it. The role is that of the
// application: the connection's own may do everything, as it has to create the schema.
func settings(ctx context.Context) ([]dbscope.Setting, error) {
	tenant, ok := ctx.Value(tenantKey{}).(string)
	if !ok {
		return nil, errNoTenant
	}
	return []dbscope.Setting{
		{Name: "role", Value: "tenants_example"},
		{Name: "app.tenant", Value: tenant},
		{Name: "statement_timeout", Value: "5s"},
	}, nil
}

type service struct{ db *pgxscope.DB }

func openService(url string) service {
	return service{pgxscope.Open(url, dbscope.Name("notes"), dbscope.Settings(settings))}
}

// add stores a note. Whose it is says the table's default.
func (s service) add(ctx context.Context, text string) error {
	_, err := s.db.Exec(ctx, "INSERT INTO tenants_example (text) VALUES ($1)", text)
	return err
}

// list returns the notes, those of the tenant, though it does not say so.
func (s service) list(ctx context.Context) ([]string, error) {
	rows, err := s.db.Query(ctx, "SELECT tenant || ': ' || text FROM tenants_example ORDER BY id")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// handler has the unit of a request inside of what finds out whose request it is.
func (s service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10))
		if err == nil {
			err = s.add(r.Context(), string(text))
		}
		answer(w, http.StatusCreated, err)
	})
	mux.HandleFunc("GET /notes", func(w http.ResponseWriter, r *http.Request) {
		notes, err := s.list(r.Context())
		answer(w, http.StatusOK, err, notes...)
	})
	return authenticate(httpscope.Middleware(httpscope.ReadOnlySafeMethods())(mux))
}

// authenticate believes the client, for the sake of the example. A request that says
// nothing goes on without a tenant: so it is if somebody forgets a middleware.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tenant := r.Header.Get("Tenant"); tenant != "" {
			r = r.WithContext(withTenant(r.Context(), tenant))
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, err error, lines ...string) {
	switch {
	case errors.Is(err, errNoTenant):
		http.Error(w, "log in first", http.StatusUnauthorized)
		return
	case err != nil:
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(status)
	for _, line := range lines {
		_, _ = fmt.Fprintln(w, line) // the client may be gone
	}
}
