package model_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
)

// table makes the steps' numbers ids of the programs' own.
type table struct{ first int }

const idsEach = 1000

func (n *table) begin()         { n.first += idsEach }
func (n *table) id(s *step) int { return n.first + s.number }
func (n *table) inject(*step)   {}

func (n *table) key(s *step) string { return strconv.Itoa(n.id(s)) }

const schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)"

// query has two rows, and waits where it is to linger.
func (n *table) query(s *step, gate string) string {
	first := "SELECT 1"
	if s.lingers {
		first += " FROM (SELECT 1) AS one WHERE " + gate
	}
	return first + " UNION ALL SELECT 2"
}

// statement stores the step's row, or fails as the step says; gate is a condition
// that makes it wait, of one that lingers. Row 0 is there.
func (n *table) statement(s *step, gate string) string {
	verb, id, parent := "INSERT", n.key(s), "NULL"
	switch s.failure {
	case duplicate:
		id = "0"
	case undoing:
		verb, id = "INSERT OR ROLLBACK", "0"
	case orphan:
		parent = "-" + id
	case misspelt:
		return "INSERT INTO nowhere (id) VALUES (" + id + ")"
	case losing:
		verb, id = "SELECT pg_terminate_backend(pg_backend_pid())", ""
	}
	if verb[0] == 'I' {
		verb += " INTO t (id, parent) SELECT " + id + ", " + parent
	}
	if s.lingers {
		verb += " FROM (SELECT 1) AS one WHERE " + gate
	}
	return verb
}

var sqliteKind = kind{oneWriter: true, deferred: true, fates: map[failure]failure{
	duplicate: harmless, misspelt: harmless, undoing: undoing,
}}

// mariadbKind is MariaDB and MySQL.
var mariadbKind = kind{fates: map[failure]failure{duplicate: harmless, misspelt: harmless}}

// overSQL is a database by way of sqlscope.
type overSQL struct {
	*sqlscope.DB
	table
	gate func(key string) string // the condition that makes a statement wait
	lock func(key string) (waits func() bool, goOn func())
}

func newOverSQL(t *testing.T, db *sqlscope.DB, schema string) *overSQL {
	d := &overSQL{DB: db}
	t.Cleanup(func() { ok(t, d.Close()) })
	pool, err := d.Engine(t.Context())
	ok(t, err)
	pool.SetMaxIdleConns(10)
	for _, statement := range []string{schema, "INSERT INTO t (id) VALUES (0)"} {
		_, err = pool.Exec(statement)
		ok(t, err)
	}
	return d
}

func openSQLite(t *testing.T, name string) *overSQL {
	dsn := "file:" + filepath.Join(t.TempDir(), name+".db") +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_txlock=immediate"
	d := newOverSQL(t, sqlscope.Open("sqlite", dsn, dbscope.Name(name)), schema)
	d.gate = func(key string) string { return "passed_gate('" + name + key + "')" }
	d.lock = func(key string) (waits func() bool, goOn func()) {
		g := &gate{until: make(chan struct{})}
		gates.Store(name+key, g)
		return g.waits.Load, func() { close(g.until) }
	}
	return d
}

// gates are those of statements on SQLite.
var gates sync.Map

type gate struct {
	waits atomic.Bool
	until chan struct{}
}

func init() {
	sqlite.MustRegisterScalarFunction("passed_gate", 1,
		func(_ *sqlite.FunctionContext, args []sqldriver.Value) (sqldriver.Value, error) {
			found, _ := gates.LoadAndDelete(args[0])
			g := found.(*gate)
			g.waits.Store(true)
			<-g.until
			return true, nil
		})
}

func openMariaDB(t *testing.T, name string) *overSQL {
	return openOfMySQL(t, name, mariatest.Shared(t).CreateDatabase(t))
}

// openMySQL opens one that reads what is committed: by default what was stored, and
// undone, keeps locks on the gaps beside it, in which other units of a program store.
func openMySQL(t *testing.T, name string) *overSQL {
	return openOfMySQL(t, name, mysqltest.Shared(t).CreateDatabase(t)+"?transaction_isolation=%27READ-COMMITTED%27")
}

func openOfMySQL(t *testing.T, name, dsn string) *overSQL {
	d := newOverSQL(t, sqlscope.Open("mysql", dsn, dbscope.Name(name)), "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER)")
	other, err := sql.Open("mysql", dsn)
	ok(t, err)
	t.Cleanup(func() { ok(t, other.Close()) })
	other.SetMaxOpenConns(1) // locks are a connection's
	ask := func(query string) (n int) {
		if err := other.QueryRow(query).Scan(&n); err != nil {
			panic(err)
		}
		return n
	}
	quoted := func(key string) string { return "'" + name + key + "'" }
	d.gate = func(key string) string {
		return "GET_LOCK(" + quoted(key) + ", 60) + RELEASE_LOCK(" + quoted(key) + ") = 2"
	}
	d.lock = func(key string) (waits func() bool, goOn func()) {
		ask("SELECT GET_LOCK(" + quoted(key) + ", 0)")
		return func() bool {
				return ask("SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock'"+
					" AND INSTR(info, "+strconv.Quote(quoted(key))+")") == 1
			}, func() {
				ask("SELECT RELEASE_LOCK(" + quoted(key) + ")")
			}
	}
	return d
}

func (d *overSQL) text(s *step) string { return d.statement(s, d.gate(d.key(s))) }

func (d *overSQL) store(ctx context.Context, s *step) error {
	_, err := d.ExecContext(ctx, d.text(s))
	return err
}

func (d *overSQL) hold(s *step) (reached func(chan error) bool, goOn func()) {
	waits, goOn := d.lock(d.key(s))
	return untilWaiting(waits), goOn
}

// untilWaiting waits for a statement that will wait, or reports false where it has
// ended instead.
func untilWaiting(waits func() bool) func(ended chan error) bool {
	return func(ended chan error) bool {
		for !waits() {
			select {
			case err := <-ended:
				ended <- err
				return false
			case <-time.After(100 * time.Microsecond):
			}
		}
		return true
	}
}

func (d *overSQL) read(ctx context.Context, s *step) (rest func() error, err error) {
	rows, err := d.QueryContext(ctx, d.query(s, d.gate(d.key(s))))
	return func() error {
		for rows.Next() {
		}
		return rows.Err()
	}, err
}

func (d *overSQL) nest(ctx context.Context) (end func(commit bool) error, err error) {
	tx, err := d.SQL().BeginTx(ctx, nil)
	return func(commit bool) error {
		if commit {
			return tx.Commit()
		}
		return tx.Rollback()
	}, err
}

func (d *overSQL) handle(ctx context.Context) (func(context.Context, *step) error, error) {
	tx, err := d.Session(ctx)
	return func(ctx context.Context, s *step) error {
		_, err := tx.ExecContext(ctx, d.text(s))
		return err
	}, err
}

func (d *overSQL) pool(t failer) *sql.DB {
	pool, err := d.Engine(context.Background())
	ok(t, err)
	return pool
}

func (d *overSQL) stored(t failer) (numbers []int) {
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

func (d *overSQL) inUse(t failer) int { return d.pool(t).Stats().InUse }
