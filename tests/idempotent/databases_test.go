package idempotent_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

var must, eventually = check.OK, check.Eventually

func TestMain(m *testing.M) {
	if order := os.Getenv(victimVariable); order != "" {
		if err := serveOrder(order); err != nil {
			log.Fatal(err)
		}
		return
	}
	_ = mysql.SetLogger(log.New(io.Discard, "", 0)) // each connection that is cut is a line
	goleak.VerifyTestMain(mysqltest.Main(mariatest.Main(pgtest.Main(m))))
}

// database is one that the tests run on.
type database struct {
	name    string
	driver  string
	native  bool // by pgxscope
	table   string
	timeout string // what tells the lock timeout of the session
	dsn     func(t testing.TB) string
}

func onPostgres(t testing.TB) string { return pgtest.Shared(t).CreateDatabase(t) }

var databases = []database{
	{name: "PostgreSQL by pgxscope", driver: "pgx", native: true, table: idempotent.PostgreSQLTable, timeout: "SHOW lock_timeout", dsn: onPostgres},
	{name: "PostgreSQL by pgx", driver: "pgx", table: idempotent.PostgreSQLTable, timeout: "SHOW lock_timeout", dsn: onPostgres},
	{name: "PostgreSQL by pq", driver: "postgres", table: idempotent.PostgreSQLTable, timeout: "SHOW lock_timeout", dsn: onPostgres},
	{
		name: "MariaDB", driver: "mysql", table: idempotent.MySQLTable, timeout: "SELECT @@innodb_lock_wait_timeout",
		dsn: func(t testing.TB) string {
			return mariatest.Shared(t).CreateDatabase(t) + "?innodb_lock_wait_timeout=3600" // unless a statement sets its own
		},
	},
	{
		name: "MySQL", driver: "mysql", table: idempotent.MySQLTable, timeout: "SELECT @@innodb_lock_wait_timeout",
		dsn: func(t testing.TB) string {
			return mysqltest.Shared(t).CreateDatabase(t) + "?innodb_lock_wait_timeout=1" // which no statement can set for itself
		},
	},
	{name: "SQLite", driver: "sqlite", table: idempotent.SQLiteTable, dsn: func(t testing.TB) string {
		return "file:" + filepath.Join(t.TempDir(), "test.db") +
			"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate"
	}},
}

func (d *database) postgres() bool { return d.table == idempotent.PostgreSQLTable }
func (d *database) mysql() bool    { return d.driver == "mysql" } // or MariaDB
func (d *database) sqlite() bool   { return d.driver == "sqlite" }

// args has places for arguments as the database writes them.
func (d *database) args(statement string) string {
	if d.mysql() {
		return strings.NewReplacer("$1", "?", "$2", "?", "$3", "?").Replace(statement)
	}
	return statement
}

// scoped is a DB of either adapter.
type scoped interface {
	idempotent.Database[sqlscope.SQLOption]
	Commit(ctx context.Context) error
	Atomic(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
	AfterRollback(ctx context.Context, hook func(context.Context) error) error
	Close() error
}

const poolSize = 8

// opened is a DB over the tables of the middleware and orders, and a pool of its own to
// look into it.
type opened struct {
	*database
	scoped
	dsnOf string // without what leads elsewhere
	admin *sql.DB
}

// open opens a database; through, where it is not nil, leads its connections elsewhere.
func open(t testing.TB, d *database, through func(dsn string) string, opts ...dbscope.DBOption) *opened {
	t.Helper()
	dsn := d.dsn(t)
	admin, err := sql.Open(d.driver, dsn)
	must(t, err)
	o := &opened{database: d, dsnOf: dsn, admin: admin}
	serial := map[bool]string{true: "BIGINT AUTO_INCREMENT PRIMARY KEY", false: "INTEGER PRIMARY KEY"}[d.mysql()]
	if d.postgres() {
		serial = "BIGSERIAL PRIMARY KEY"
	}
	for _, statement := range append(strings.Split(d.table, ";"),
		"CREATE TABLE orders (id "+serial+", item VARCHAR(400) NOT NULL, parent BIGINT REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)",
	) {
		if d.mysql() {
			statement = strings.ReplaceAll(statement, " DEFERRABLE INITIALLY DEFERRED", "")
		}
		_, err = admin.Exec(statement)
		must(t, err)
	}
	if through != nil {
		dsn = through(dsn)
	}
	o.scoped = d.openDB(dsn, opts...)
	t.Cleanup(func() { must(t, errors.Join(o.Close(), admin.Close())) })
	return o
}

func (d *database) openDB(dsn string, opts ...dbscope.DBOption) scoped {
	opts = append([]dbscope.DBOption{dbscope.Name("test")}, opts...)
	if d.native {
		return pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
			config, err := pgxpool.ParseConfig(dsn)
			if err != nil {
				return nil, err
			}
			config.MaxConns = poolSize
			pgxscope.Configure(config)
			return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
		}, opts...)
	}
	return sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		pool, err := sql.Open(d.driver, dsn)
		if err == nil {
			pool.SetMaxOpenConns(poolSize)
			pool.SetMaxIdleConns(poolSize)
		}
		return pool, err
	}, opts...)
}

// onEach runs a test on each database.
func onEach(t *testing.T, test func(t *testing.T, d *opened), opts ...dbscope.DBOption) {
	for i := range databases {
		t.Run(databases[i].name, func(t *testing.T) { test(t, open(t, &databases[i], nil, opts...)) })
	}
}

// place stores an order in the unit of the context.
func (d *opened) place(ctx context.Context, item string) error {
	_, err := d.SQL().ExecContext(ctx, d.args("INSERT INTO orders (item) VALUES ($1)"), item)
	return err
}

// placeLost stores an order that fails at COMMIT.
func (d *opened) placeLost(ctx context.Context, item string) error {
	_, err := d.SQL().ExecContext(ctx, d.args("INSERT INTO orders (item, parent) VALUES ($1, 999999)"), item)
	return err
}

// count looks into the database from outside.
func (d *opened) count(t testing.TB, table string) (n int) {
	t.Helper()
	must(t, d.admin.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// wantStored checks how many orders and keys are committed.
func (d *opened) wantStored(t testing.TB, orders, keys int) {
	t.Helper()
	if o, k := d.count(t, "orders"), d.count(t, "dbscope_requests"); o != orders || k != keys {
		t.Errorf("%d orders and %d keys are stored, want %d and %d", o, k, orders, keys)
	}
	if n := d.count(t, "dbscope_requests WHERE response IS NULL"); n != 0 {
		t.Errorf("%d keys are stored without a response", n)
	}
}
