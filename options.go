package dbscope

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/backoff"
	"github.com/dbscope/dbscope/internal/settle"
	"github.com/dbscope/dbscope/observe"
)

// Option changes one scope; see [Run] and [Begin].
type Option interface{ applyToScope(o *scopeOptions) }

// AtomicOption changes one [DB.Atomic] block.
type AtomicOption interface{ applyToAtomic(o *atomicOptions) }

// UnitOption is both an [Option] and an [AtomicOption].
type UnitOption interface {
	Option
	AtomicOption
}

type unitOption func(*unitOptions)

func (set unitOption) applyToScope(o *scopeOptions)   { set(&o.unitOptions) }
func (set unitOption) applyToAtomic(o *atomicOptions) { set(&o.unitOptions) }

type scopeOption func(*scopeOptions)

func (set scopeOption) applyToScope(o *scopeOptions) { set(o) }

type unitOptions struct {
	tx    driver.TxOptions
	retry *backoff.Policy
}

type scopeOptions struct {
	unitOptions
	endTimeout     time.Duration
	onHookError    func(context.Context, error)
	awaitsEnd      bool // also where nothing depends on the answer
	awaitsRollback bool
	name           string
	observers      []observe.Observer
	maxConns       int
}

// defaultEndTimeout bounds commit and rollback where [CommitTimeout] is not
// given.
const defaultEndTimeout = 10 * time.Second

// ReadOnly begins the unit's transactions read-only. The default is the
// database's own, which is to allow writing. PostgreSQL refuses to write in
// one; SQLite does not, and its drivers at most make BEGIN deferred for it.
func ReadOnly() UnitOption {
	return unitOption(func(o *unitOptions) { o.tx.ReadOnly = true })
}

// Isolation sets the isolation level of the unit's transactions. The default
// is the database's own.
func Isolation(level sql.IsolationLevel) UnitOption {
	return unitOption(func(o *unitOptions) { o.tx.Isolation = level })
}

// Deferrable makes PostgreSQL wait, at the first statement, for a moment from
// which a transaction that is both [ReadOnly] and [sql.LevelSerializable] runs
// without being checked or undone; see "SET TRANSACTION" in its manual. It
// changes nothing in other transactions; other databases refuse it.
func Deferrable() UnitOption {
	return unitOption(func(o *unitOptions) { o.tx.Deferrable = true })
}

// CommitTimeout bounds each COMMIT and each ROLLBACK, which the cancellation
// of the caller's context does not stop, and before it the closing of rows that
// were left open. The default, also for 0 and less, is 10 seconds. A COMMIT that
// takes longer returns [ErrCommitUnknown], or [ErrRolledBack] if the transaction is
// [ReadOnly]. If rows cannot be closed in that time, because the driver reads the
// rest of them, the connection is given up, nothing is committed, and the commit
// returns [ErrRolledBack].
func CommitTimeout(d time.Duration) Option {
	if d <= 0 {
		d = defaultEndTimeout
	}
	return scopeOption(func(o *scopeOptions) { o.endTimeout = d })
}

// AwaitEnd waits for the database's answer to the unit's last COMMIT or ROLLBACK in any
// case. The default is to wait only where something depends on it: with pgxscope the
// COMMIT of a transaction that is [ReadOnly], and the ROLLBACK of any, are sent and not
// waited for. What nobody waits for may still be under way when the unit is over: for
// a moment another connection can meet the locks of the unit, advisory ones too, which
// is what this option is for. docs/roundtrips.md lists when the answer is waited for.
func AwaitEnd() Option {
	return scopeOption(func(o *scopeOptions) { o.awaitsEnd = true })
}

// OnHookError sets the function that gets the errors of the scope's after-hooks,
// joined, and their panics. The unit is over by then. The default is
// [slog.ErrorContext].
func OnHookError(report func(ctx context.Context, err error)) Option {
	if report == nil {
		report = logHookError
	}
	return scopeOption(func(o *scopeOptions) { o.onHookError = report })
}

func logHookError(ctx context.Context, err error) {
	slog.ErrorContext(ctx, "dbscope: after the end of a unit of work its hooks failed", "error", err)
}

// DBOption changes a DB when an adapter opens it.
type DBOption interface{ applyToDB(o *dbOptions) }

type dbOption func(*dbOptions)

func (set dbOption) applyToDB(o *dbOptions) { set(o) }

type dbOptions struct {
	name          string
	observers     []observe.Observer
	host          string
	allowUnscoped bool
	settler       settle.Settler
	resets        bool
	beforeSession func(context.Context) error
	beforeCommit  func(context.Context) error
	settings      func(context.Context) ([]Setting, error)
	router        driver.Router
	adapter       []any // see AdapterOption
}

// Host sets the host that stands for {host} in the connection string, and
// that an adapter's New passes to its function. There is no default: a string
// that holds {host} without one is an error on first use. So is a text that is no
// host, see [DB.SwitchHost].
func Host(host string) DBOption {
	return dbOption(func(o *dbOptions) { o.host = host })
}

// Router lets the router choose the host of each session, which stands for {host}
// in the connection string: a scope with [ReadOnly] may get a replica, unless it
// is serializable, which replicas of PostgreSQL refuse; others get the host that
// writes. Package cluster has a router.
func Router(router driver.Router) DBOption {
	return dbOption(func(o *dbOptions) { o.router = router })
}

// BeforeSession calls fn each time before a session is opened, in the context
// of the statement that opens it. It may call [DB.SwitchHost], for this session
// and those after it; its error is the statement's. Sessions of the same DB that
// it opens itself do not call it again.
func BeforeSession(fn func(context.Context) error) DBOption {
	return dbOption(func(o *dbOptions) { o.beforeSession = fn })
}

// BeforeEachCommit calls hook before each commit of a transaction of the DB, early
// ones and those of [DB.Atomic] blocks too, as [DB.BeforeCommit] would: in the scope,
// after the hooks that were registered for it, and not where no transaction is open.
// Its error prevents the commit. It is called for transactions of siblings too.
func BeforeEachCommit(hook func(context.Context) error) DBOption {
	return dbOption(func(o *dbOptions) { o.beforeCommit = hook })
}

// Setting is a setting of one transaction of PostgreSQL, see [Settings].
type Setting = driver.Setting

// Settings begins each transaction of the DB with the settings that fn returns, in
// their order, as set_config(name, value, true) of PostgreSQL does: a tenant for
// row-level security, a role, statement_timeout. They end with the transaction, and
// fn is called anew for the next one. docs/tenants.md shows what to do with them.
//
// fn is called with the context of the statement that opens the transaction, before a
// connection is taken; where that context is not of the unit, as in methods that take
// none, with the one that the unit began with. fn may block, must be safe for
// concurrent use, and must not use the DB itself. Its error is the statement's, and
// nothing is sent; since what the statement was to do is missing, the unit can only
// roll back. A setting that the server refuses fails that statement, or with sqlscope
// the beginning of its transaction.
//
// A statement without a scope would run without them: it is refused, [ErrNoScope],
// also with [AllowUnscoped]. Transactions of siblings have them too, those on the
// adapter's own pool do not. Databases that have no such settings refuse the option
// with the first statement.
//
// With pgxscope they travel with BEGIN, and cost no round trip. With sqlscope they
// cost one, or two where the driver prepares what has arguments, as lib/pq does.
func Settings(fn func(context.Context) ([]Setting, error)) DBOption {
	return dbOption(func(o *dbOptions) { o.settings = fn })
}

// AllowUnscoped sends statements whose context has no scope straight to the
// pool, each on its own, instead of returning [ErrNoScope].
//
// It hides a mistake. Code may get another context than the request's, because it
// calls [context.Background] or because a middleware is missing. Then each statement is
// stored by itself: if the third of four fails, the first two stay stored, and no
// error says so. So do not open the DB with it that requests use.
// A program that has statements outside of units can open a second DB with this
// option for these alone. Jobs and command lines use [Join] or [Run], and tests use
// scopetest.Fixture.
//
// What asks for a transaction never runs without one: Join begins a unit, and
// [DB.Session], [DB.Atomic], early ends and hooks return ErrNoScope as
// ever; so does each statement of a DB with [Settings].
func AllowUnscoped() DBOption {
	return dbOption(func(o *dbOptions) { o.allowUnscoped = true })
}

// ResetConnections brings a connection back to the state of a new one as it goes
// back to the pool, so that no unit meets what another has left on it: settings,
// roles, temporary tables, listeners, advisory locks. The default is to leave it as
// it is, as database/sql and pgx do. docs/connections.md lists what goes and what
// stays.
//
// On PostgreSQL it costs a round trip for each unit, and for each statement without
// a scope, after COMMIT and before the unit's end returns. Other databases have no
// statement for it, so that the connection is closed and the next unit makes a new
// one; so is one that cannot be reset within a second. Neither changes what became
// of the unit. The transactions of one unit share the connection as it is.
func ResetConnections() DBOption {
	return dbOption(func(o *dbOptions) { o.resets = true })
}

// AdapterOption is an option of the adapter's own: the value goes to its method
// Configure. It is for writers of adapters, whose packages have functions that
// return one. Where the adapter does not know the value, each use of the DB is
// an error.
func AdapterOption(value any) DBOption {
	return dbOption(func(o *dbOptions) { o.adapter = append(o.adapter, value) })
}

// LedgerTable is the statement that creates the table of [SettleByLedger], for
// PostgreSQL, MariaDB, MySQL and SQLite. dbscope does not run it: it belongs to the
// application's migrations.
const LedgerTable = settle.LedgerTable

// SettleByStatus finds out what became of a COMMIT whose answer was lost, on
// PostgreSQL 13 and later. It asks, on another connection, for the status of
// the transaction's id, and believes it only while the server is the same one
// and has not crashed since, for ids are used again after a crash. A
// transaction that still runs on a connection that nobody reads is ended. The
// commit then succeeds or is [ErrRolledBack]; what cannot be known, as after a
// crash or a failover, and for transactions without an id, stays
// [ErrCommitUnknown].
//
// It costs a round trip before each COMMIT of a scope that may write, and one before
// the first transaction on each host: that is refused where the database is none of
// PostgreSQL's, as CockroachDB and YugabyteDB are not. Settling takes no longer than
// [CommitTimeout].
func SettleByStatus() DBOption {
	return dbOption(func(o *dbOptions) { o.settler = &settle.ByStatus{} })
}

// SettleByLedger finds out what became of a COMMIT whose answer was lost, on
// any database: each transaction of a scope that may write puts a row with an
// id of its own into the table of [LedgerTable], and where the answer is lost
// the row is looked for on another connection. The commit then succeeds or is
// [ErrRolledBack]; it stays [ErrCommitUnknown] where the database cannot be
// reached within [CommitTimeout].
//
// It costs a round trip and a row for each transaction; see [DB.PurgeLedger].
func SettleByLedger() DBOption {
	return dbOption(func(o *dbOptions) { o.settler = settle.ByLedger{} })
}

// RetryPolicy says how often, and after what waits, a unit of work is run
// again. The zero value is the default of each field.
type RetryPolicy struct {
	Attempts int           // the first included; the default is 5
	MinDelay time.Duration // before the second attempt, doubled for each further one; the default is 10 ms
	MaxDelay time.Duration // the longest wait; the default is 1 s
}

// Retry runs the unit's function again if the database rolled its work back for a
// reason that may be gone the next time: a serialization failure, a deadlock, a
// database that is busy, a table that was altered under a prepared statement. COMMIT
// may fail for these reasons, too. docs/retry.md lists the errors. Only errors of
// the database libraries count, also if errors of yours wrap them. Each wait is
// random, between half of what the policy says and all of it. After the last attempt
// the error says how many there were. Each attempt is a new unit with hooks of its
// own. There is no further attempt if anything of the unit was committed, if an
// outcome is unknown, or if the context is done. The default is one attempt.
//
// For [DB.Atomic] it has an effect if the block is a transaction of its own. If fn
// has used other databases or other sessions there is no further attempt, nor if a
// hook of the DB was registered before the block, since the first attempt's end was
// the one that it waited for.
func Retry(policy RetryPolicy) UnitOption {
	if policy.Attempts <= 0 {
		policy.Attempts = 5
	}
	if policy.MinDelay <= 0 {
		policy.MinDelay = 10 * time.Millisecond
	}
	if policy.MaxDelay <= 0 {
		policy.MaxDelay = time.Second
	}
	filled := backoff.Policy(policy)
	return unitOption(func(o *unitOptions) { o.retry = &filled })
}

// AtomicMode is an [AtomicOption]: it says what becomes of a transaction that is
// open in the session. Without a mode the block is a savepoint of it. With none
// open all modes are the same.
type AtomicMode uint8

// The modes of [DB.Atomic].
const (
	// CommitOpen commits the open transaction first; the block is then a
	// transaction of its own, durable when Atomic returns.
	CommitOpen AtomicMode = iota + 1
	// RollbackOpen undoes the open transaction first; then as CommitOpen.
	RollbackOpen
	// ContinueOpen makes the block continue the open transaction, and its end end
	// both.
	ContinueOpen
	// RefuseOpen refuses with [ErrOpenTransaction], without a call of fn.
	RefuseOpen
)

// atomicModes says what each mode does with a transaction that is open.
var atomicModes = [...]struct {
	ends      bool // it is ended first,
	commits   bool // by a commit
	continues bool // the block's end is its end
	refuses   bool
}{
	CommitOpen:   {ends: true, commits: true},
	RollbackOpen: {ends: true},
	ContinueOpen: {continues: true},
	RefuseOpen:   {refuses: true},
}

func (m AtomicMode) applyToAtomic(o *atomicOptions) { o.mode = m }

type atomicOptions struct {
	unitOptions
	mode AtomicMode // 0: the block is a savepoint of it
}
