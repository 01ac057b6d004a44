package soak_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/cable"
	"github.com/dbscope/dbscope/tests/wire"
)

var ok = check.OK

const poolSize = 8

// methods are those of a DB, whatever its handle.
type methods interface {
	Atomic(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
	Commit(ctx context.Context) error
	Release(ctx context.Context) error
	BeforeCommit(ctx context.Context, hook func(context.Context) error) error
	AfterCommit(ctx context.Context, hook func(context.Context) error) error
	AfterRollback(ctx context.Context, hook func(context.Context) error) error
	SwitchHost(ctx context.Context, host string) error
	SQL(opts ...sqlscope.SQLOption) *sql.DB
	Close() error
}

// database is one that the service uses.
type database struct {
	methods
	name     string
	exec     func(ctx context.Context, statement string, args ...any) error
	count    func(ctx context.Context, statement string) (rows int, err error) // reads all of them
	leave    func(ctx context.Context, statement string) error                 // leaves its rows open
	pgx      *pgxscope.DB                                                      // or nil
	sqlite   bool
	postgres bool
	resets   bool                // its connections
	slow     string              // a statement of some milliseconds
	admin    *sql.DB             // past the proxies and dbscope
	idle     func() (drop error) // closes the connections that nobody uses
	hosts    []string            // to switch between
	ledger   ledger
}

// resetting is the option, where the database has it.
func (db *database) resetting() dbscope.DBOption {
	if db.resets {
		return dbscope.ResetConnections()
	}
	return dbscope.Name(db.name)
}

const schema = `CREATE TABLE soak (unit BIGINT NOT NULL, number INT NOT NULL, part INT NOT NULL)`

// insertRow has a place for the arguments as each database writes it.
func (db *database) statement(text string) string {
	if db.postgres {
		return text
	}
	return strings.NewReplacer("$1", "?", "$2", "?", "$3", "?").Replace(text)
}

const insertText = "INSERT INTO soak (unit, number, part) VALUES ($1, $2, $3)"

// insert stores a row of a group.
func (db *database) insert(ctx context.Context, u *unit, g *group, part int) error {
	return db.exec(ctx, db.statement(insertText), u.id, g.number, part)
}

func overSQL(db *database, of *sqlscope.DB) *database {
	db.methods = of
	db.exec = func(ctx context.Context, statement string, args ...any) error {
		_, err := of.ExecContext(ctx, statement, args...)
		return err
	}
	db.count = func(ctx context.Context, statement string) (int, error) {
		rows, err := of.QueryContext(ctx, statement)
		if err != nil {
			return 0, err
		}
		n := 0
		for rows.Next() {
			n++
		}
		return n, errors.Join(rows.Err(), rows.Close())
	}
	db.leave = func(ctx context.Context, statement string) error {
		rows, err := of.QueryContext(ctx, statement) //nolint:sqlclosecheck,rowserrcheck // that is the point
		if err == nil {
			rows.Next()
		}
		return err
	}
	db.idle = func() error {
		pool, err := of.Engine(context.Background())
		if err != nil {
			return err
		}
		pool.SetMaxIdleConns(-1)
		pool.SetMaxIdleConns(poolSize)
		if n := pool.Stats().InUse; n != 0 {
			return fmt.Errorf("%s: %d connections are in use", db.name, n)
		}
		return nil
	}
	return db
}

func overPgx(db *database, of *pgxscope.DB) *database {
	db.methods, db.pgx = of, of
	db.exec = func(ctx context.Context, statement string, args ...any) error {
		_, err := of.Exec(ctx, statement, args...)
		return err
	}
	db.count = func(ctx context.Context, statement string) (int, error) {
		rows, err := of.Query(ctx, statement)
		if err != nil {
			return 0, err
		}
		n := 0
		for rows.Next() {
			n++
		}
		return n, rows.Err()
	}
	db.leave = func(ctx context.Context, statement string) error {
		rows, err := of.Query(ctx, statement)
		if err == nil {
			rows.Next()
		}
		return err
	}
	db.idle = func() error {
		pool, err := of.Pool(context.Background())
		if err != nil {
			return err
		}
		pool.Reset()
		if n := pool.Stat().AcquiredConns(); n != 0 {
			return fmt.Errorf("%s: %d connections are in use", db.name, n)
		}
		return nil
	}
	return db
}

// world is what the service runs on.
type world struct {
	t         *testing.T
	postgres  *pgtest.Server
	proxies   []*wire.Proxy // in front of it
	mariadb   *mariatest.Server
	cable     *cable.Cable // in front of that
	databases []*database
}

func newWorld(t *testing.T) *world {
	w := &world{
		t:        t,
		postgres: pgtest.Start(t, "max_prepared_transactions = 0"),
		mariadb:  mariatest.Start(t),
	}
	var hosts []string
	for range 2 {
		p := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", w.postgres.Port()))
		w.proxies = append(w.proxies, p)
		hosts = append(hosts, p.Addr())
	}
	w.cable = cable.Lay(t, fmt.Sprintf("127.0.0.1:%d", w.mariadb.Port()))
	for _, name := range []string{"pgx", "sql"} {
		w.postgres.Query(t, w.postgres.DSN("postgres"), "CREATE DATABASE "+name)
	}
	through := func(name string) string { return "postgres://postgres@{host}/" + name + "?sslmode=disable" }

	resets := rand.IntN(2) // one of the two that can, another one in the next run
	t.Logf("connections of %s are reset", []string{"pgx", "sql"}[resets])

	native := &database{name: "pgx", postgres: true, hosts: hosts, resets: resets == 0}
	w.add(overPgx(native, pgxscope.New(func(ctx context.Context, host string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(strings.ReplaceAll(through("pgx"), "{host}", host))
		if err != nil {
			return nil, err
		}
		config.MaxConns = poolSize
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Name("pgx"), dbscope.Host(hosts[0]), dbscope.AllowUnscoped(), dbscope.SettleByStatus(), native.resetting())),
		"pgx", w.postgres.DSN("pgx"))

	plain := &database{name: "sql", postgres: true, hosts: hosts, resets: resets == 1}
	w.add(overSQL(plain, sqlscope.New(limited("pgx", through("sql")),
		dbscope.Name("sql"), dbscope.Host(hosts[0]), dbscope.AllowUnscoped(), plain.resetting())), "pgx", w.postgres.DSN("sql"))

	dsn := w.mariadb.CreateDatabase(t)
	host := fmt.Sprintf("127.0.0.1:%d", w.mariadb.Port())
	w.add(overSQL(&database{name: "maria"}, sqlscope.New(limited("mysql", strings.Replace(dsn, host, w.cable.Addr(), 1)),
		dbscope.Name("maria"), dbscope.AllowUnscoped(), dbscope.SettleByLedger())), "mysql", dsn)

	file := "file:" + filepath.Join(t.TempDir(), "soak.db") +
		"?_pragma=busy_timeout(500)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"
	w.add(overSQL(&database{name: "sqlite", sqlite: true}, sqlscope.New(limited("sqlite", file),
		dbscope.Name("sqlite"), dbscope.AllowUnscoped())), "sqlite", file)
	return w
}

// limited opens pools of moderate size.
func limited(driver, dsn string) func(context.Context, string) (*sql.DB, error) {
	return func(_ context.Context, host string) (*sql.DB, error) {
		pool, err := sql.Open(driver, strings.ReplaceAll(dsn, "{host}", host))
		if err == nil {
			pool.SetMaxOpenConns(poolSize)
			pool.SetMaxIdleConns(poolSize)
		}
		return pool, err
	}
}

// add makes the tables of a database, and a client of its own to look into it.
func (w *world) add(db *database, driver, dsn string) {
	admin, err := sql.Open(driver, dsn)
	ok(w.t, err)
	w.t.Cleanup(func() { ok(w.t, errors.Join(db.Close(), admin.Close())) })
	admin.SetMaxIdleConns(-1) // a session of its own would be among those that are counted
	db.admin = admin
	statements := []string{
		schema, "CREATE INDEX soak_unit ON soak (unit)",
		"CREATE TABLE counter (id INT PRIMARY KEY, n BIGINT NOT NULL)",
		"INSERT INTO counter (id, n) VALUES (0, 0), (1, 0)", "CREATE TABLE filler (text VARCHAR(200))",
	}
	filler := "('" + strings.Repeat("x", 150) + "')"
	statements = append(statements, "INSERT INTO filler (text) VALUES "+filler+strings.Repeat(", "+filler, 199))
	switch {
	case db.postgres:
		db.slow = "SELECT pg_sleep(0.003)"
	case db.sqlite:
		db.slow = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT count(*) FROM n"
	default:
		db.slow = "SELECT SLEEP(0.003)"
		statements = append(statements, dbscope.LedgerTable)
	}
	for _, s := range statements {
		_, err := admin.Exec(s)
		ok(w.t, err)
	}
	w.databases = append(w.databases, db)
}

// find returns the rows after a unit, and those that are there twice.
func (db *database) find(after int64) (found, twice map[place]uint64, err error) {
	rows, err := db.admin.Query(fmt.Sprintf("SELECT unit, number, part FROM soak WHERE unit > %d", after))
	if err != nil {
		return nil, nil, err
	}
	found, twice = map[place]uint64{}, map[place]uint64{}
	for rows.Next() {
		var at place
		var part int
		if err := rows.Scan(&at.unit, &at.number, &part); err != nil {
			return nil, nil, err
		}
		bit := uint64(1) << part
		if found[at]&bit != 0 {
			twice[at] |= bit
		}
		found[at] |= bit
	}
	return found, twice, errors.Join(rows.Err(), rows.Close())
}

// total returns the number of all rows, and a checksum.
func (db *database) total() (n, checksum int64, err error) {
	err = db.admin.QueryRow("SELECT count(*), coalesce(sum(unit), 0) FROM soak").Scan(&n, &checksum)
	return n, checksum, err
}

// uneven compares what the counters say with the rows stored beside them.
func (db *database) uneven() error {
	var counted, rows int64
	err := db.admin.QueryRow(fmt.Sprintf("SELECT (SELECT coalesce(sum(n), 0) FROM counter), (SELECT count(*) FROM soak WHERE number >= %d)", countedNumber)).
		Scan(&counted, &rows)
	if err == nil && counted != rows {
		err = fmt.Errorf("%s: the counters say %d, and %d rows were stored beside them", db.name, counted, rows)
	}
	return err
}

// sessions counts those of the service on the servers.
func (w *world) sessions() (postgres, mariadb int, err error) {
	err = errors.Join(
		w.databases[0].admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()").Scan(&postgres),
		w.databases[2].admin.QueryRow("SELECT count(*) FROM information_schema.processlist WHERE user = 'app' AND id <> CONNECTION_ID()").Scan(&mariadb))
	return postgres, mariadb, err
}

func pick[T any](from []T) T { return from[rand.IntN(len(from))] }
