// Package sqlscope gives dbscope a database through any database/sql driver.
// The native handle of a session is a [*database/sql.Tx]. [DB.SQL] gives a real
// [*database/sql.DB] on the same session, for libraries that want one.
//
//	var shop = sqlscope.Open("pgx", "postgres://app@127.0.0.1/shop")
//
//	func placeOrder(ctx context.Context, item string) error {
//		_, err := shop.ExecContext(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
//		return err
//	}
//
// # Databases
//
// What a failed statement does to its transaction differs between databases. So
// the adapter asks each new pool, when it is first used, which database it talks
// to, by a few short queries. PostgreSQL and its relatives, SQLite, MariaDB and
// MySQL are known. On any other database every failed statement fails its
// transaction.
//
// On SQLite, give the data source name _txlock=immediate, or what your driver
// calls it, if units read and then write. Otherwise a conflict fails them at
// once, without waiting for busy_timeout.
//
// # Statements that end the transaction
//
// A text that would begin or end a transaction is refused with
// [dbscope.ErrOpenTransaction]. The text is read as its database reads it; on an
// unknown database it is refused if any of the known ones would refuse it.
//
// On MariaDB and MySQL other statements can end their transaction as well, such as
// CREATE TABLE, a procedure or EXECUTE. A statement that might be one of these
// runs between a savepoint and its release, for two round trips, which show
// whether the transaction is still the same. If it is not, the statement returns
// an error although it was executed, no further statement is let through, and
// the commit is [dbscope.ErrCommitUnknown]. Run such statements on the pool that
// [DB.Engine] returns.
//
// # Errors
//
// The error of a statement is the driver's own. [dbscope.Retry] knows the error
// types of the drivers that docs/retry.md lists.
//
// # Limits of database/sql
//
// BEGIN cannot be sent along with a statement: a unit of n statements costs n+2
// round trips. Nor can [dbscope.Settings], which only PostgreSQL has: they are one
// more statement after BEGIN.
//
// A driver that closes rows cannot be stopped, and most drivers read what is left
// of them. If a unit leaves rows open that cannot be closed within
// [dbscope.CommitTimeout], its end does not wait for them: the connection stays
// with the driver, and is closed when the driver returns. Until then it counts
// as in use, and the server may keep the transaction's locks. So close the rows
// of a long result, or query it with a context that ends, which makes drivers give
// up at once. Commit and Rollback of a [*database/sql.Tx] first close its rows and
// wait for the driver, as they do without dbscope.
//
// # Outside of units
//
// With [dbscope.AllowUnscoped] a statement whose context has no scope runs by
// itself. What was meant to be one unit is then stored in halves if its context is
// not the request's. Such statements run as on a plain pool: a prepared statement
// is prepared once on each connection, and a [*database/sql.Conn] of [DB.SQL] keeps
// one connection from its first statement without a scope until its Close. So
// advisory locks and settings hold on it, and so do transactions that its BeginTx
// begins. With a scope's context the same Conn runs statements in the scope's
// session. Its Raw shows nothing of use: [DB.Raw] shows the driver's own
// connection.
package sqlscope

import (
	"cmp"
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/dsn"
	"github.com/dbscope/dbscope/internal/errs"
)

// DB is a database behind database/sql. It is safe for concurrent use. Its
// statement methods run in the session of the context's scope.
type DB struct {
	*dbscope.DB[*sql.Tx]
	gate     driver.Gate
	inner    *shells   // of the DB's own methods and handles
	ambient  *Ambient  // of SQL, where frameworks may change the pool's limits
	siblings *sync.Map // of *dbscope.DB to *DB, this one among them
	pools    func() (sqldriver.Driver, error)
}

// Open makes a DB of a registered driver and its data source name. In the
// name {host} stands for the value of [dbscope.Host]. Nothing is opened, so
// that errors in the arguments come with the first use. Limits are set on the
// pool that [DB.Engine] returns.
//
// Errors of opening the pool and of its connections are the driver's own, unless
// a part of a password may be in them: then they tell less, and wrap only what is
// safe to print.
func Open(driverName, dataSourceName string, opts ...dbscope.DBOption) *DB {
	open := func(_ context.Context, host string) (*sql.DB, error) {
		name, err := driver.WithHost("data source name", dataSourceName, host)
		if err != nil {
			return nil, err
		}
		return sql.Open(driverName, name)
	}
	source := dsn.Read(driverName, dataSourceName)
	name := dbscope.Name(cmp.Or(source.Name(), driverName))
	a := &adapter{open: open, source: source}
	a.driver = sync.OnceValues(func() (sqldriver.Driver, error) {
		db, err := sql.Open(driverName, strings.ReplaceAll(dataSourceName, "{host}", "localhost")) // connects to nothing
		if err != nil {
			return nil, source.Mask(err)
		}
		return db.Driver(), db.Close()
	})
	return newDB(a, append([]dbscope.DBOption{name}, opts...))
}

// New makes a DB of pools that open makes, one for each host, on first use;
// with [dbscope.Router] one more, for the router. The host is that of
// [dbscope.Host]. Closing the DB closes the pools. The data source names that open
// uses are not known here: a driver that shows parts of a malformed one is not
// kept from that as it is with [Open].
func New(open func(ctx context.Context, host string) (*sql.DB, error), opts ...dbscope.DBOption) *DB {
	return newDB(&adapter{open: open, source: &dsn.Source{}}, append([]dbscope.DBOption{dbscope.Name("sql")}, opts...))
}

func newDB(a *adapter, opts []dbscope.DBOption) *DB {
	core := dbscope.New(a, opts...)
	if a.driver == nil {
		a.driver = func() (sqldriver.Driver, error) { return driverOf(dbscope.Gate(core)) }
	}
	db := wrap(core, a.driver, &sync.Map{})
	db.siblings.Store(db.DB, db)
	a.inner = db.inner
	return db
}

func wrap(core *dbscope.DB[*sql.Tx], pools func() (sqldriver.Driver, error), siblings *sync.Map) *DB {
	gate := dbscope.Gate(core)
	return &DB{
		DB: core, gate: gate, siblings: siblings, pools: pools,
		inner: newShells(gate, pools, false), ambient: NewAmbient(gate, pools),
	}
}

// driverOf asks the pool of the current host, which a router may have to choose.
func driverOf(gate driver.Gate) (sqldriver.Driver, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	e, err := gate.Engine(ctx)
	if err != nil {
		return nil, err
	}
	return e.(*engine).db.Driver(), nil
}

const openTimeout = 5 * time.Second

// ExecContext runs a statement in the session of ctx's scope. It blocks; what
// ctx ends is this statement only.
func (db *DB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	res, err := db.inner.get().db.ExecContext(told(ctx), query, args...)
	return res, caused(ctx, err)
}

// QueryContext runs a query in the session of ctx's scope. The rows occupy the
// session until they are closed, or the transaction ends.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	q := &asked{silent: silent{ctx}}
	rows, err := db.inner.get().db.QueryContext(q, query, args...)
	q.belongsTo(rows)
	return rows, err
}

// QueryRowContext runs a query for one row in the session of ctx's scope.
func (db *DB) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	q := &asked{silent: silent{ctx}}
	row := db.inner.get().db.QueryRowContext(q, query, args...)
	q.belongsTo(row)
	return row
}

// PrepareContext makes a statement for later use, in any scope: each use runs
// in the session of its own context. Inside a scope the query is checked at
// once, otherwise when it is first used. Each session prepares it anew, and closes
// it at its end. After Close of the statement, a session closes it before its next
// statement or its end, which return the error if that fails. A statement that was
// prepared on the handle is closed at once, unless rows are open.
//
// A COPY of lib/pq is such a statement: while it is open the session takes no
// other, and the commit of a unit that leaves it open returns [dbscope.ErrRolledBack].
func (db *DB) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	stmt, err := db.inner.get().db.PrepareContext(told(ctx), query)
	return stmt, caused(ctx, err)
}

// silent is a context whose end database/sql does not see: the session tells
// its cause, where database/sql would not, and the rows look at it before each
// read, where database/sql would watch it from a goroutine for each query.
type silent struct{ context.Context }

// Done implements [context.Context].
func (silent) Done() <-chan struct{} { return nil }

// told keeps database/sql from answering for a context that has ended.
func told(ctx context.Context) context.Context {
	if ctx.Err() != nil {
		return silent{ctx}
	}
	return ctx
}

// caused adds its cause to the error of a context that ended too late for told.
func caused(ctx context.Context, err error) error {
	if err == nil || err != ctx.Err() { //nolint:errorlint // database/sql's own answer
		return err
	}
	return fmt.Errorf("sqlscope: the statement was not sent: %w", errs.Interrupted(ctx))
}

// heard is the context that the driver gets, which watches it itself.
func heard(ctx context.Context) context.Context {
	switch c := ctx.(type) {
	case silent:
		return c.Context
	case *asked:
		return c.Context
	}
	return ctx
}

// Engine returns the pool of the current host, and opens it on first use. It
// has nothing to do with scopes.
func (db *DB) Engine(ctx context.Context) (*sql.DB, error) {
	e, err := db.gate.Engine(ctx)
	if err != nil {
		return nil, err
	}
	return e.(*engine).db, nil
}

// SQLOption changes what [DB.SQL] returns.
type SQLOption func(*sqlOptions)

type sqlOptions struct{ join bool }

// JoinBegin makes BeginTx join the open transaction: Commit does nothing, and
// Rollback lets the whole transaction only roll back, or the Atomic block that
// it is in. It saves the round trips of the savepoint that is the default. It is not
// for code that reads in a transaction and then calls Rollback instead of Commit.
func JoinBegin() SQLOption { return func(o *sqlOptions) { o.join = true } }

// SQL returns a real [*sql.DB] for any library that wants one: each statement
// runs in the session of its context's scope. BeginTx is a savepoint there.
//
// Without a scope a statement returns [dbscope.ErrNoScope], unless the DB has
// [dbscope.AllowUnscoped]. With that option a *sql.Conn keeps one connection of the
// pool until it is closed, and [DB.Close] waits for it. Ping needs no scope: it asks
// the pool.
//
// The connections of this *sql.DB are only references to sessions, so it has no limit
// on their number: limit the pool that [DB.Engine] returns. SQL returns the same
// *sql.DB whenever it is called with the same options. If somebody closes it, it is
// closed for all who have it, and later calls return a new one. Give a library that
// may close its handle one of its own, by [DB.SetUp]. The Raw method of a *sql.Conn
// shows nothing of use; see [DB.Raw].
func (db *DB) SQL(opts ...SQLOption) *sql.DB {
	return db.ambient.SQL(opts...)
}

// SetUp calls fn with a handle like that of SQL, which nobody else has, for a library
// that talks to the database as it is opened, or a tool that does its work at once, as
// one for migrations does:
//
//	err := db.SetUp(func(handle *sql.DB) (err error) {
//		orm, err = gorm.Open(sqlite.Dialector{Conn: handle}, &gorm.Config{})
//		return err
//	})
//
// Until fn returns, what is sent through the handle without a scope runs on the pool, as
// with [dbscope.AllowUnscoped], which the DB does not need for that; afterwards it is
// [dbscope.ErrNoScope]. The library may keep the handle, and close it. Where fn returns an
// error, which SetUp returns, or panics, the handle is closed. [DB.Close] closes it too.
func (db *DB) SetUp(fn func(handle *sql.DB) error, opts ...SQLOption) error {
	return db.ambient.SetUp(fn, opts...)
}

// Sibling is [dbscope.DB.Sibling] with this package's methods.
func (db *DB) Sibling(name string) *DB {
	core := db.DB.Sibling(name)
	if s, ok := db.siblings.Load(core); ok {
		return s.(*DB)
	}
	s, _ := db.siblings.LoadOrStore(core, wrap(core, db.pools, db.siblings))
	return s.(*DB)
}

// Close is [dbscope.DB.Close]; it also closes what SQL returned, of siblings too.
func (db *DB) Close() error {
	err := db.DB.Close()
	db.siblings.Range(func(_, s any) bool {
		err = errors.Join(err, s.(*DB).inner.close(), s.(*DB).ambient.Close())
		return true
	})
	return err
}

// adapter implements [driver.Adapter].
type adapter struct {
	open   func(ctx context.Context, host string) (*sql.DB, error)
	driver func() (sqldriver.Driver, error) // of what open opens
	source *dsn.Source                      // the same
	inner  *shells
	opened sync.Map // of *sql.DB to *engine
}

func (a *adapter) Open(ctx context.Context, host string) (driver.Engine, error) {
	db, err := a.open(ctx, host)
	if err != nil {
		return nil, a.source.Mask(err)
	}
	if db == nil {
		return nil, errors.New("the function given to New returned no *sql.DB and no error")
	}
	e := &engine{db: db, source: a.source, over: func() { a.opened.Delete(db) }}
	a.opened.Store(db, e)
	return e, nil
}

// Handle makes a *sql.Tx over a shell connection that is bound to the session.
// Nothing but the session ends it: a cancelled request must not.
func (a *adapter) Handle(s driver.Session) (*sql.Tx, func(), error) {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), sessionKey{}, s))
	tx, err := a.inner.get().db.BeginTx(ctx, nil)
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("sqlscope: %w", err)
	}
	return tx, cancel, nil
}

// Transient implements [driver.Adapter].
func (a *adapter) Transient(err error) bool { return transient(err) }

// WriteRefused implements [driver.Adapter].
func (a *adapter) WriteRefused(err error) bool { return writeRefused(err) }
