package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"maps"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
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
)

var ok, is, equal, want = check.OK, check.Is, check.Equal[string], check.Equal[int]

func TestMain(m *testing.M) { goleak.VerifyTestMain(mysqltest.Main(mariatest.Main(pgtest.Main(m)))) }

// database is one that the tests run on.
type database struct {
	driver   string
	postgres bool
	ofMySQL  bool // MariaDB or MySQL
	mysql    bool // MySQL itself
	native   bool // by pgxscope
	dsn      func(t *testing.T) string
}

var databases = map[string]database{
	"SQLite": {driver: "sqlite", dsn: func(t *testing.T) string {
		return "file:" + filepath.Join(t.TempDir(), "test.db") +
			"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate"
	}},
	"PostgreSQL by pgx": {driver: "pgx", postgres: true, dsn: func(t *testing.T) string {
		return pgtest.Shared(t).CreateDatabase(t)
	}},
	"PostgreSQL by pq": {driver: "postgres", postgres: true, dsn: func(t *testing.T) string {
		return pgtest.Shared(t).CreateDatabase(t)
	}},
	"MariaDB": {driver: "mysql with $1", ofMySQL: true, dsn: func(t *testing.T) string {
		return mariatest.Shared(t).CreateDatabase(t)
	}},
	"MySQL": {driver: "mysql with $1", ofMySQL: true, mysql: true, dsn: func(t *testing.T) string {
		return mysqltest.Shared(t).CreateDatabase(t)
	}},
	"PostgreSQL by pgxscope": {driver: "pgx", postgres: true, native: true, dsn: func(t *testing.T) string {
		return pgtest.Shared(t).CreateDatabase(t)
	}},
}

// bySqlscope are the databases without pgxscope's, for what cannot run on it:
// faults put into a database/sql driver, which it takes from nobody, and the
// suite over handles of type *sql.Tx, where its own are pgx.Tx. The tests of
// pgxscope run the suite on those.
func bySqlscope() map[string]database {
	some := maps.Clone(databases)
	maps.DeleteFunc(some, func(_ string, d database) bool { return d.native })
	return some
}

// onEach runs a test on each database, over a table t(id).
func onEach(t *testing.T, test func(t *testing.T, d *opened), opts ...dbscope.DBOption) {
	for name, d := range databases {
		t.Run(name, func(t *testing.T) { test(t, open(t, d, opts...)) })
	}
}

// onEachDeferring runs a test on each database that can leave a constraint to
// be checked by COMMIT.
func onEachDeferring(t *testing.T, test func(t *testing.T, d *opened)) {
	onEach(t, func(t *testing.T, d *opened) {
		if d.ofMySQL {
			t.Skip("it checks each row at once")
		}
		test(t, d)
	})
}

// opened is a DB on a pool that counts, and a client of its own.
type opened struct {
	database
	scoped
	dialed *atomic.Int64
	other  *sql.DB
}

func open(t *testing.T, d database, opts ...dbscope.DBOption) *opened {
	dsn := d.dsn(t)
	other, err := sql.Open(d.driver, dsn)
	ok(t, err)
	table := "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)"
	if d.ofMySQL { // checks each row at once
		table = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id))"
	}
	_, err = other.Exec(table)
	ok(t, err)
	o := &opened{database: d, dialed: &atomic.Int64{}, other: other}
	opts = append([]dbscope.DBOption{dbscope.Name("test")}, opts...)
	if d.native {
		o.scoped = overPgx{pgxscope.New(countingPool(dsn, o.dialed), opts...)}
	} else {
		o.scoped = overSQL{sqlscope.New(func(context.Context, string) (*sql.DB, error) {
			return sql.OpenDB(counting{dsn, other.Driver(), o.dialed}), nil
		}, opts...)}
	}
	t.Cleanup(func() {
		ok(t, o.Close())
		ok(t, other.Close())
	})
	return o
}

func (o *opened) inUse(t *testing.T) int {
	t.Helper()
	n, err := o.acquired(t.Context())
	ok(t, err)
	return n
}

// kill ends a session of MariaDB or MySQL, whose KILL takes no parameters.
func (o *opened) kill(id int) error {
	_, err := o.other.Exec("KILL " + strconv.Itoa(id))
	return err
}

// stored returns the ids that another client sees.
func (o *opened) stored(t *testing.T) []int {
	t.Helper()
	rows, err := o.other.Query("SELECT id FROM t ORDER BY id")
	ok(t, err)
	return scan(t, rows)
}

func scan(t *testing.T, rows *sql.Rows) []int {
	t.Helper()
	var ids []int
	for rows.Next() {
		var id int
		ok(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	ok(t, rows.Err())
	return ids
}

func insert(ctx context.Context, to execer, id int) error {
	_, err := to.ExecContext(ctx, "INSERT INTO t (id) VALUES ($1)", id)
	return err
}

// counting is a connector that counts the connections it makes.
type counting struct {
	dsn    string
	driver sqldriver.Driver
	n      *atomic.Int64
}

func (c counting) Connect(context.Context) (sqldriver.Conn, error) {
	c.n.Add(1)
	return c.driver.Open(c.dsn)
}

func (c counting) Driver() sqldriver.Driver { return c.driver }

// countingPool makes a pool that counts the connections it makes.
func countingPool(dsn string, n *atomic.Int64) func(context.Context, string) (*pgxpool.Pool, error) {
	return func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.AfterConnect = func(context.Context, *pgx.Conn) error { n.Add(1); return nil }
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}
}
