package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"path/filepath"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
	"github.com/dbscope/dbscope/observe/livescope"
	"github.com/dbscope/dbscope/observe/slogscope"
)

// database is where the orders are.
type database struct {
	*sqlscope.DB
	keyTable string          // the statement that creates the table of idempotency keys
	live     *livescope.Page // shows what is done in it
}

// openDatabase connects to nothing yet: the first statement does.
func openDatabase(databaseURL, hosts, file string) (*database, error) {
	switch {
	case (hosts != "") != strings.Contains(databaseURL, "{host}"):
		return nil, errors.New("a cluster needs both: its hosts, and {host} in DATABASE_URL where they shall stand")
	case hosts != "":
		return openCluster(databaseURL, strings.Split(hosts, ",")), nil
	case databaseURL != "":
		live := livescope.New(showTexts)
		return &database{openPool("pgx", databaseURL, 20, live), idempotent.PostgreSQLTable, live}, nil
	}
	return openSQLite(file), nil
}

// openCluster finds the primary among the hosts by itself. Requests that only
// read, which the middleware knows by their method, go to the replicas.
func openCluster(databaseURL string, hosts []string) *database {
	// A service of several processes gives all of them the same key, or each
	// believes only the tokens of its own clients.
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	nodes := cluster.New(cluster.List(hosts...), cluster.SignedBy(key))
	live := livescope.New(showTexts, livescope.Hosts("orders", nodes))
	return &database{openPool("pgx", databaseURL, 20, live, dbscope.Router(nodes)), idempotent.PostgreSQLTable, live}
}

// openSQLite opens a file that many requests can use at once. SQLite has one
// writer at a time. A transaction that reads first and then wants to write
// would fail at once when another has written meanwhile; one that takes the
// write lock as it begins (immediate) waits its turn instead, up to
// busy_timeout. The driver leaves read-only transactions deferred: in WAL mode
// these never wait.
func openSQLite(file string) *database {
	options := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(20000)", "journal_mode(WAL)", "foreign_keys(1)"},
	}
	// The characters of a path that mean something in a URI are escaped.
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(file), RawQuery: options.Encode()}
	live := livescope.New(showTexts)
	return &database{openPool("sqlite", dsn.String(), 8, live), idempotent.SQLiteTable, live}
}

// showTexts is harmless here: what clients send goes into arguments, which are
// never shown.
var showTexts = livescope.StatementText()

// openPool limits the pool, which sqlscope.Open leaves as database/sql makes
// it: without a limit. In a cluster each host has such a pool. What deserves a
// look is on the page and in the log.
func openPool(driver, dsn string, conns int, live *livescope.Page, opts ...dbscope.DBOption) *sqlscope.DB {
	return sqlscope.New(func(_ context.Context, host string) (*sql.DB, error) {
		pool, err := sql.Open(driver, strings.ReplaceAll(dsn, "{host}", host))
		if err == nil {
			pool.SetMaxOpenConns(conns)
			pool.SetMaxIdleConns(conns)
		}
		return pool, err
	}, append(opts, dbscope.Name("orders"), dbscope.Observe(live), dbscope.Observe(slogscope.New()))...)
}
