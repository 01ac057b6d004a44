package main

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// openDatabase connects to nothing yet: the first statement does.
func openDatabase(databaseURL, file string) *sqlscope.DB {
	if databaseURL != "" {
		return openPool("pgx", databaseURL, 20)
	}
	return openSQLite(file)
}

// openSQLite opens a file that many requests can use at once. SQLite has one
// writer at a time. A transaction that reads first and then wants to write
// would fail at once when another has written meanwhile; one that takes the
// write lock as it begins (immediate) waits its turn instead, up to
// busy_timeout. The driver leaves read-only transactions deferred: in WAL mode
// these never wait.
func openSQLite(file string) *sqlscope.DB {
	options := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(20000)", "journal_mode(WAL)", "foreign_keys(1)"},
	}
	// The characters of a path that mean something in a URI are escaped.
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(file), RawQuery: options.Encode()}
	return openPool("sqlite", dsn.String(), 8)
}

// openPool limits the pool, which sqlscope.Open leaves as database/sql makes
// it: without a limit.
func openPool(driver, dsn string, conns int) *sqlscope.DB {
	return sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		pool, err := sql.Open(driver, dsn)
		if err == nil {
			pool.SetMaxOpenConns(conns)
			pool.SetMaxIdleConns(conns)
		}
		return pool, err
	}, dbscope.Name("orders"))
}
