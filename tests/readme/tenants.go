package readme

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/scopetest"
)

type tenantKey struct{}

// withTenant returns a context for work in the name of one tenant.
func withTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

var errNoTenant = errors.New("no tenant in the context")

var notes = pgxscope.Open("postgres://app@127.0.0.1/notes", dbscope.Settings(
	func(ctx context.Context) ([]dbscope.Setting, error) {
		tenant, ok := ctx.Value(tenantKey{}).(string)
		if !ok {
			return nil, errNoTenant
		}
		return []dbscope.Setting{
			{Name: "app.tenant", Value: tenant},
			{Name: "statement_timeout", Value: "5s"},
		}, nil
	}))

func listNotes(ctx context.Context) ([]string, error) {
	rows, err := notes.Query(ctx, `SELECT text FROM notes ORDER BY id`) // of the tenant alone
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// The unit begins inside of authenticate, which puts the tenant into the context.
func handler(mux http.Handler) http.Handler { return authenticate(httpscope.Middleware()(mux)) }

func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant, ok := tenantOfSession(r)
		if !ok {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(withTenant(r.Context(), tenant)))
	})
}

func tenantOfSession(*http.Request) (string, bool) { return "", false }

// TestNotesAreTheTenantsOwn is of docs/tenants.md.
func TestNotesAreTheTenantsOwn(t *testing.T) {
	ctx := scopetest.Rollback(t, notes)
	ada, bob := withTenant(ctx, "ada"), withTenant(ctx, "bob")
	if _, err := notes.Exec(scopetest.Fixture(ada), `INSERT INTO notes (text) VALUES ('buy tea')`); err != nil {
		t.Fatal(err)
	}
	if n := scopetest.Count(bob, notes, "notes"); n != 0 {
		t.Errorf("bob sees %d notes", n)
	}
}

var _, _, _ = listNotes, handler, TestNotesAreTheTenantsOwn
