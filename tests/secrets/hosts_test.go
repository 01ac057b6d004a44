package secrets_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// A host from outside that brings along what the operator has not written.
func TestAHostBringsNothingElseIntoAnyConnectionString(t *testing.T) {
	strs := map[string][]string{
		"pgxscope": {"host={host} user=app dbname=shop", "postgres://app@{host}/shop"},
		"pgx":      {"host={host} user=app dbname=shop", "postgres://app@{host}/shop"},
		"lib/pq":   {"host={host} user=app dbname=shop", "postgres://app@{host}/shop"},
		"mysql":    {"app@tcp({host})/shop", "app@unix({host})/shop"},
		"sqlite":   {"file:/nowhere/{host}/shop.db"},
	}
	hosts := []string{
		"127.0.0.1 port=1 user=postgres dbname=template1", "127.0.0.1:1/template1?user=postgres", "postgres@127.0.0.1:1",
		"127.0.0.1:1)/mysql?allowAllFiles=true&x=(", "127.0.0.1'", "x?mode=memory",
	}
	for library, dsns := range strs {
		for _, dsn := range dsns {
			for _, host := range hosts {
				db := openers[library](dsn, dbscope.Host(host), dbscope.Name("shop"))
				refused(t, library+" "+dsn, host, run(t, db))
				refused(t, library+" "+dsn, host, db.SwitchHost(t.Context(), host))
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for _, host := range hosts {
		for what, db := range map[string]database{
			"sqlscope.New": sqlscope.New(func(_ context.Context, host string) (*sql.DB, error) {
				t.Errorf("the function got %q", host)
				return nil, sql.ErrConnDone
			}, dbscope.Host(host), dbscope.Name("shop")),
			"pgxscope.New": pgxscope.New(func(_ context.Context, host string) (*pgxpool.Pool, error) {
				t.Errorf("the function got %q", host)
				return nil, sql.ErrConnDone
			}, dbscope.Host(host), dbscope.Name("shop")),
		} {
			refused(t, what, host, run(t, db))
		}
	}
}

// In a URL it would be the database's name.
func TestThePathOfASocketIsAHostButInNoURL(t *testing.T) {
	for dsn, want := range map[string]string{
		"host={host} user=app dbname=shop sslmode=disable": "/nowhere/.s.PGSQL.5432",
		"postgres://app@{host}/shop":                       "the path of a socket cannot stand for {host} in a URL",
	} {
		for _, library := range []string{"pgxscope", "pgx", "lib/pq"} {
			db := openers[library](dsn, dbscope.Host("/nowhere"))
			if err := run(t, db); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v", library, dsn, err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func run(t *testing.T, db database) error {
	return dbscope.Run(t.Context(), func(ctx context.Context) error { _, err := db.SQL().ExecContext(ctx, "SELECT 1"); return err })
}

func refused(t *testing.T, what, host string, err error) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "dbscope: shop: ") || !strings.Contains(err.Error(), "given as the host is none") ||
		strings.Contains(err.Error(), host) {
		t.Errorf("%s: %q: %v", what, host, err)
	}
}
