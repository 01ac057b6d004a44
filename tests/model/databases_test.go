package model_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok = check.OK

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

// kind is what the model and the generator know of a database.
type kind struct {
	oneWriter bool // a second one waits for the first one's end
	inject    bool // failures are injected
	fates     map[failure]failure
}

// database is one that programs run on.
type database interface {
	Atomic(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
	Release(ctx context.Context) error
	BeforeCommit(ctx context.Context, hook func(context.Context) error) error
	AfterCommit(ctx context.Context, hook func(context.Context) error) error
	AfterRollback(ctx context.Context, hook func(context.Context) error) error

	store(ctx context.Context, s *step) error
	handle(ctx context.Context) (store func(ctx context.Context, s *step) error, err error)
	inject(s *step)
	begin() // a program
	stored(t failer) (numbers []int)
	inUse(t failer) int // connections
}

// failer is what rapid's tests have in common with others.
type failer = check.Test

var fakeKind = kind{inject: true, fates: map[failure]failure{
	harmless: harmless, aborting: aborting, undoing: undoing, losing: losing,
}}

var fates = map[failure]driver.Fate{
	harmless: driver.Intact, aborting: driver.Aborted, undoing: driver.Undone, losing: driver.Lost,
}

// fake is a new one for each program.
type fake struct {
	*dbscope.DB[*drivertest.Tx]
	f    *drivertest.Fake
	name string
}

func (d *fake) begin() {
	d.f = drivertest.NewFake()
	d.DB = d.f.DB(dbscope.Name(d.name))
}

func (d *fake) store(ctx context.Context, s *step) error {
	row := strconv.Itoa(s.number)
	if s.failure != sound {
		d.f.Inject("exec "+row, drivertest.Fault{Err: s.err, Fate: fates[s.failure]})
	}
	return drivertest.Exec(ctx, d.DB, row)
}

func (d *fake) handle(ctx context.Context) (func(context.Context, *step) error, error) {
	tx, err := d.Session(ctx)
	return func(ctx context.Context, s *step) error { return tx.Exec(ctx, strconv.Itoa(s.number)) }, err
}

func (d *fake) inject(s *step) {
	f := drivertest.Fault{Err: s.err, Fate: fates[s.fault.fate], Done: s.fault.done, Outcome: driver.RolledBack}
	if s.fault.state == unknown {
		f.Outcome = driver.Unknown
	}
	d.f.Inject(s.fault.kind, f)
}

func (d *fake) stored(t failer) (numbers []int) {
	for _, row := range d.f.Rows() {
		n, err := strconv.Atoi(row)
		ok(t, err)
		numbers = append(numbers, n)
	}
	return numbers
}

func (d *fake) inUse(failer) int { return d.f.Open() }

// table makes the steps' numbers ids of the programs' own.
type table struct{ first int }

const idsEach = 1000

func (n *table) begin()         { n.first += idsEach }
func (n *table) id(s *step) int { return n.first + s.number }
func (n *table) inject(*step)   {}

const schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)"

// statement stores the step's row, or fails as the step says. Row 0 is there.
func (n *table) statement(s *step) string {
	id, nowhere := strconv.Itoa(n.id(s)), strconv.Itoa(-n.id(s))
	switch s.failure {
	case duplicate:
		return "INSERT INTO t (id) VALUES (0)"
	case undoing:
		return "INSERT OR ROLLBACK INTO t (id) VALUES (0)"
	case misspelt:
		return "INSERT INTO nowhere (id) VALUES (" + id + ")"
	case losing:
		return "SELECT pg_terminate_backend(pg_backend_pid())"
	case orphan:
		return "INSERT INTO t (id, parent) VALUES (" + id + ", " + nowhere + ")"
	}
	return "INSERT INTO t (id) VALUES (" + id + ")"
}

var sqliteKind = kind{oneWriter: true, fates: map[failure]failure{
	duplicate: harmless, misspelt: harmless, undoing: undoing,
}}

type sqlite struct {
	*sqlscope.DB
	table
}

func openSQLite(t *testing.T, name string) *sqlite {
	dsn := "file:" + filepath.Join(t.TempDir(), name+".db") +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_txlock=immediate"
	d := &sqlite{DB: sqlscope.Open("sqlite", dsn, dbscope.Name(name))}
	t.Cleanup(func() { ok(t, d.Close()) })
	pool, err := d.Engine(t.Context())
	ok(t, err)
	pool.SetMaxIdleConns(10)
	_, err = pool.Exec(schema + "; INSERT INTO t (id) VALUES (0)")
	ok(t, err)
	return d
}

func (d *sqlite) store(ctx context.Context, s *step) error {
	_, err := d.ExecContext(ctx, d.statement(s))
	return err
}

func (d *sqlite) handle(ctx context.Context) (func(context.Context, *step) error, error) {
	tx, err := d.Session(ctx)
	return func(ctx context.Context, s *step) error {
		_, err := tx.ExecContext(ctx, d.statement(s))
		return err
	}, err
}

func (d *sqlite) pool(t failer) *sql.DB {
	pool, err := d.Engine(context.Background())
	ok(t, err)
	return pool
}

func (d *sqlite) stored(t failer) (numbers []int) {
	rows, err := d.pool(t).Query("SELECT id FROM t WHERE id >= ?", d.first)
	ok(t, err)
	for rows.Next() {
		var id int
		ok(t, rows.Scan(&id))
		numbers = append(numbers, id-d.first)
	}
	ok(t, rows.Err())
	return numbers
}

func (d *sqlite) inUse(t failer) int { return d.pool(t).Stats().InUse }

var postgresKind = kind{fates: map[failure]failure{
	duplicate: aborting, misspelt: aborting, losing: losing,
}}

type postgres struct {
	*pgxscope.DB
	table
}

func openPostgres(t *testing.T, name string) *postgres {
	dsn := pgtest.Shared(t).CreateDatabase(t)
	pgtest.Shared(t).Query(t, dsn, schema+"; INSERT INTO t (id) VALUES (0)")
	d := &postgres{DB: pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.MaxConns = 30
		config.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
		config.ConnConfig.RuntimeParams["log_min_messages"] = "panic" // errors are what this is about
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Name(name))}
	t.Cleanup(func() { ok(t, d.Close()) })
	return d
}

func (d *postgres) store(ctx context.Context, s *step) error {
	_, err := d.Exec(ctx, d.statement(s))
	return err
}

func (d *postgres) handle(ctx context.Context) (func(context.Context, *step) error, error) {
	tx, err := d.Session(ctx)
	return func(ctx context.Context, s *step) error {
		_, err := tx.Exec(ctx, d.statement(s))
		return err
	}, err
}

func (d *postgres) stored(t failer) []int {
	pool, err := d.Pool(context.Background())
	ok(t, err)
	var numbers []int
	ok(t, pool.QueryRow(context.Background(),
		"SELECT coalesce(array_agg(id - $1::int), '{}') FROM t WHERE id >= $1", d.first).Scan(&numbers))
	slices.Sort(numbers)
	return numbers
}

func (d *postgres) inUse(t failer) int {
	pool, err := d.Pool(context.Background())
	ok(t, err)
	return int(pool.Stat().AcquiredConns())
}
