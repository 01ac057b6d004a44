package main

import (
	"context"
	"database/sql"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/peterldowns/pgtestdb"

	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// Here all that a route commits is stored, in a database of the test's own: a
// file on SQLite; on PostgreSQL a copy of a template, made once, by pgtestdb.

func TestR19EachRouteLeavesTheRowsOfTheReference(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) *sqlscope.DB{"SQLite": ownFile, "PostgreSQL": ownCopy} {
		t.Run(name, func(t *testing.T) {
			for _, want := range reference {
				t.Run(want.route, func(t *testing.T) {
					t.Parallel()
					db := open(t)
					t.Cleanup(func() { closeDB(t, db) })
					server := httptest.NewUnstartedServer(newHandler(db))
					quiet(server)
					server.Start()
					t.Cleanup(server.Close)
					check(t, server.URL, want)
					checkNoConnectionIsTaken(t, db)
				})
			}
		})
	}
}

func ownFile(t *testing.T) *sqlscope.DB {
	db := open("", filepath.Join(t.TempDir(), "routes.db"))
	if err := createSchema(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

func ownCopy(t *testing.T) *sqlscope.DB {
	server, err := url.Parse(pgtest.Shared(t).DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	config := pgtestdb.Custom(t, pgtestdb.Config{
		DriverName: "pgx", User: server.User.Username(), Host: server.Hostname(), Port: server.Port(),
		Database: "postgres", Options: server.RawQuery,
	}, migrator{})
	return open(config.URL(), "")
}

// migrator makes the template.
type migrator struct{}

// Hash implements [pgtestdb.Migrator]: another schema is another template.
func (migrator) Hash() (string, error) { return schema, nil }

// Migrate implements [pgtestdb.Migrator].
func (migrator) Migrate(ctx context.Context, template *sql.DB, _ pgtestdb.Config) error {
	return createSchema(ctx, sqlscope.New(func(context.Context, string) (*sql.DB, error) { return template, nil }))
}

func checkNoConnectionIsTaken(t *testing.T, db *sqlscope.DB) {
	t.Helper()
	pool, err := db.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := pool.Stats().InUse; n != 0 {
		t.Errorf("%d connections are not back in the pool", n)
	}
}
