package libraries_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/fstest"

	"github.com/golang-migrate/migrate/v4"
	migratedb "github.com/golang-migrate/migrate/v4/database"
	migratemysql "github.com/golang-migrate/migrate/v4/database/mysql"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	migratesqlite "github.com/golang-migrate/migrate/v4/database/sqlite3"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/pressly/goose/v3"

	"github.com/dbscope/dbscope"
)

const (
	up   = "CREATE TABLE shelves (id INTEGER PRIMARY KEY);"
	more = "INSERT INTO shelves (id) VALUES (1);"
)

// migrated expects the migrations to be stored, and the DB to work afterwards.
func migrated(t *testing.T, s *shop) {
	t.Helper()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		n, err := s.count(ctx, "SELECT count(*) FROM shelves")
		ok(t, err)
		if n != 1 {
			t.Errorf("%d shelves", n)
		}
		_, err = s.SQL().ExecContext(ctx, "DELETE FROM shelves")
		return err
	}))
	is(t, s.exec(t.Context(), "DELETE FROM shelves"), dbscope.ErrNoScope)
}

func TestGooseMigratesAsTheDBIsSetUp(t *testing.T) {
	files := fstest.MapFS{
		"1_shelves.sql": {Data: []byte("-- +goose Up\n" + up + "\n-- +goose Down\nDROP TABLE shelves;\n")},
		"2_one.sql":     {Data: []byte("-- +goose Up\n" + more + "\n")},
		"3_outside.sql": {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX shelf ON shelves (id);\n")},
	}
	onEach(t, "", func(t *testing.T, s *shop) {
		run := func(handle *sql.DB) (*goose.Provider, error) {
			dialect := map[string]goose.Dialect{"sqlite": goose.DialectSQLite3, "postgres": goose.DialectPostgres, "mysql": goose.DialectMySQL}[s.dialect]
			provider, err := goose.NewProvider(dialect, handle, files)
			if err != nil {
				return nil, err
			}
			_, err = provider.Up(t.Context())
			return provider, err
		}
		for range 2 { // the second time there is nothing to do
			if s.dialect == "mysql" {
				// Its tables are created in a transaction, which they commit there: that is for the pool.
				pool, err := s.sql.Engine(t.Context())
				ok(t, err)
				_, err = run(pool)
				ok(t, err)
				continue
			}
			ok(t, s.SetUp(func(handle *sql.DB) error {
				provider, err := run(handle)
				if err != nil {
					return err
				}
				return provider.Close() // which closes the handle
			}))
		}
		migrated(t, s)
	})
}

func TestGolangMigrateMigratesAsTheDBIsSetUp(t *testing.T) {
	files := fstest.MapFS{"1_shelves.up.sql": {Data: []byte(up)}, "2_one.up.sql": {Data: []byte(more)}}
	onEach(t, "", func(t *testing.T, s *shop) {
		for range 2 {
			ok(t, s.SetUp(func(handle *sql.DB) error {
				source, err := iofs.New(files, ".")
				if err != nil {
					return err
				}
				var target migratedb.Driver
				switch s.dialect {
				case "postgres":
					target, err = migratepgx.WithInstance(handle, &migratepgx.Config{})
				case "mysql":
					target, err = migratemysql.WithInstance(handle, &migratemysql.Config{})
				default:
					target, err = migratesqlite.WithInstance(handle, &migratesqlite.Config{})
				}
				if err != nil {
					return err
				}
				m, err := migrate.NewWithInstance("files", source, s.dialect, target)
				if err != nil {
					return err
				}
				if err = m.Up(); errors.Is(err, migrate.ErrNoChange) {
					err = nil
				}
				failed, closed := m.Close() // which closes the handle
				return errors.Join(err, failed, closed)
			}))
		}
		migrated(t, s)
	})
}
