package libraries_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok, is, equal = check.OK, check.Is, check.Equal[string]

// GORM's statement cache, and what watermill and river are given, have goroutines that
// nothing ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(mysqltest.Main(mariatest.Main(pgtest.Main(m))),
		goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1"))
}

var errStop = errors.New("stop")

// shop is a DB, whichever adapter's it is, over empty tables of authors and books.
type shop struct {
	dialect string
	dbscope.Database
	Close func() error
	SQL   func(opts ...sqlscope.SQLOption) *sql.DB
	SetUp func(fn func(handle *sql.DB) error, opts ...sqlscope.SQLOption) error
	exec  func(ctx context.Context, query string) error
	count func(ctx context.Context, query string) (int, error)
	pgx   *pgxscope.DB // or nil
	sql   *sqlscope.DB // or nil
	dsn   string
	other *sql.DB // a client of its own
}

func overSQL(driver, dialect, dsn string) *shop {
	db := sqlscope.Open(driver, dsn)
	return &shop{
		dialect: dialect, Database: db, SQL: db.SQL, SetUp: db.SetUp, Close: db.Close, sql: db, dsn: dsn,
		exec: func(ctx context.Context, query string) error { _, err := db.ExecContext(ctx, query); return err },
		count: func(ctx context.Context, query string) (n int, err error) {
			err = db.QueryRowContext(ctx, query).Scan(&n)
			return n, err
		},
	}
}

func overPgx(dsn string) *shop {
	db := pgxscope.Open(dsn)
	return &shop{
		dialect: "postgres", Database: db, SQL: db.SQL, SetUp: db.SetUp, Close: db.Close, pgx: db, dsn: dsn,
		exec: func(ctx context.Context, query string) error { _, err := db.Exec(ctx, query); return err },
		count: func(ctx context.Context, query string) (n int, err error) {
			err = db.QueryRow(ctx, query).Scan(&n)
			return n, err
		},
	}
}

// database is one that the programs run on.
type database struct {
	name, driver, dialect string
	open                  func(t *testing.T) *shop
}

var databases = []database{
	{"SQLite", "sqlite3", "sqlite", func(t *testing.T) *shop {
		return overSQL("sqlite3", "sqlite", "file:"+filepath.Join(t.TempDir(), "test.db")+"?_foreign_keys=1&_txlock=immediate")
	}},
	{"PostgreSQL by sqlscope", "pgx", "postgres", func(t *testing.T) *shop {
		return overSQL("pgx", "postgres", pgtest.Shared(t).CreateDatabase(t))
	}},
	{"PostgreSQL by pgxscope", "pgx", "postgres", func(t *testing.T) *shop { return overPgx(pgtest.Shared(t).CreateDatabase(t)) }},
	{"MariaDB", "mysql", "mysql", func(t *testing.T) *shop {
		return overSQL("mysql", "mysql", mariatest.Shared(t).CreateDatabase(t)+"?parseTime=true")
	}},
	{"MySQL", "mysql", "mysql", func(t *testing.T) *shop {
		return overSQL("mysql", "mysql", mysqltest.Shared(t).CreateDatabase(t)+"?parseTime=true")
	}},
}

// onEach runs a test on each database of the dialects, or on all.
func onEach(t *testing.T, dialects string, test func(t *testing.T, s *shop)) {
	for _, d := range databases {
		if dialects != "" && dialects != d.dialect {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			s := d.open(t)
			t.Cleanup(func() { ok(t, s.Close()) })
			var err error
			s.other, err = sql.Open(d.driver, s.dsn)
			ok(t, err)
			t.Cleanup(func() { ok(t, s.other.Close()) })
			id := map[string]string{
				"sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT", "postgres": "SERIAL PRIMARY KEY", "mysql": "INTEGER PRIMARY KEY AUTO_INCREMENT",
			}[d.dialect]
			for _, table := range []string{
				"CREATE TABLE authors (id " + id + ", name VARCHAR(100) NOT NULL UNIQUE)",
				"CREATE TABLE books (id " + id + ", author_id INTEGER NOT NULL REFERENCES authors (id), title VARCHAR(100) NOT NULL UNIQUE)",
			} {
				_, err := s.other.Exec(table)
				ok(t, err)
			}
			test(t, s)
		})
	}
}

// stored returns how many authors and books another client sees.
func (s *shop) stored(t *testing.T) (authors, books int) {
	t.Helper()
	ok(t, s.other.QueryRow("SELECT (SELECT count(*) FROM authors), (SELECT count(*) FROM books)").Scan(&authors, &books))
	return authors, books
}

func (s *shop) want(t *testing.T, authors, books int) {
	t.Helper()
	if a, b := s.stored(t); a != authors || b != books {
		t.Fatalf("%d authors and %d books are stored, want %d and %d", a, b, authors, books)
	}
}
