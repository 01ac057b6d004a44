// Package driver is the interface between dbscope's core and the libraries that
// talk to databases. Only writers of adapters need it.
//
// An adapter implements [Adapter], [Engine] and [Conn]; the core implements
// [Session] and [Gate]. All rules about units of work are in the core: who may run
// a statement, when a transaction begins, what a failure means for its end. An
// adapter sends statements and reports what became of them. The package drivertest
// has the conformance suite that every adapter passes.
package driver

import (
	"context"
	"database/sql"
	"errors"
)

// Adapter connects one database library to the core. H is the library's
// native handle of a transaction, such as *sql.Tx. It must be safe for
// concurrent use.
type Adapter[H any] interface {
	// Open returns the connection pool for a host, which the core has made sure is
	// one, or empty. The core calls it on first use, once for each host, and again
	// after an error. It may block. Its errors, and those of the engine, go to logs
	// and perhaps to clients: no part of a password may be in them.
	Open(ctx context.Context, host string) (Engine, error)
	// Handle makes the native handle of a session, without I/O and without
	// calling the session. Every
	// statement of the handle goes through the session. The core calls ended,
	// where it is not nil, once the session is over; ended must not block.
	Handle(s Session) (handle H, ended func(), err error)
	// Transient reports whether the error, which is not nil, tells of a failure
	// that the same transaction may not meet again: a serialization failure,
	// a deadlock, a database that is busy. Only the library's own errors may count,
	// wherever in err they are; see [AnyError].
	Transient(err error) bool
	// WriteRefused reports whether the error, which is not nil, tells that a
	// statement would have written, and that the transaction or the server is
	// read-only.
	WriteRefused(err error) bool
}

// Configurable is an [Adapter] with options of its own, which the core passes
// on from dbscope.AdapterOption before it opens anything. Configure reports
// whether it knows the option.
type Configurable interface{ Configure(option any) (known bool) }

// Adopter is an [Adapter] that can run statements in a transaction which other code
// has begun, and will end, see dbscope.DB.Adopt.
type Adopter[H any] interface {
	// Adopt returns the transaction's connection. It may ask the server.
	Adopt(ctx context.Context, tx H) (AdoptedConn, error)
}

// AdoptedConn is a [Conn] whose transaction is other code's. The core never calls its
// Begin, Commit, Rollback and Release.
type AdoptedConn interface {
	Conn
	// PreventCommit makes the transaction unable to commit, unless it is already: by
	// making the server abort it so that no savepoint of its owner's leads back, or by
	// a rollback. From then on RollbackTo does nothing. It may be called again. An
	// error says that something of it may be committed, or was.
	PreventCommit(ctx context.Context) error
	// Left tells that the transaction was ended by whoever began it: from then on
	// nothing may be sent, and rows are only let go. It may be called while another
	// goroutine uses the connection.
	Left()
}

// Engine is a pool of connections to one host. It must be safe for concurrent
// use.
type Engine interface {
	// Acquire takes a connection out of the pool. It blocks until there is
	// one or ctx is done. Before it waits for ctx.Done it has called Done once,
	// to look: only a Done that is asked for again ends also where the host is
	// left meanwhile.
	Acquire(ctx context.Context) (Conn, error)
	// Close closes the pool. It may block until all connections are back.
	Close() error
}

// Limited is an [Engine] that knows how many connections it has at most. Then a
// deadlock of units that wait for each other's connections is told at once.
type Limited interface {
	// MaxConns returns that number, 0 without a limit. It is asked while callers
	// wait in Acquire.
	MaxConns() int
}

// Conn is one connection, with at most one transaction. The core never calls
// it from two goroutines at once. No method may panic. What not every connection
// can do are interfaces of their own: [Ender], [Flusher], [Looker], [Setter], [CommitQuerier],
// [Dialecter], [Execer] and others.
type Conn interface {
	// Begin starts a transaction, or arranges that BEGIN travels with the
	// next statement. A caller that is cancelled during Begin cancels it;
	// afterwards ctx has no hold on the transaction.
	Begin(ctx context.Context, opts TxOptions) error
	// Commit ends the transaction and tells what became of it. The error is
	// nil if, and only if, the outcome is Committed. The contexts of Commit
	// and of the methods after it end by their deadline alone.
	Commit(ctx context.Context) (Outcome, error)
	// Rollback undoes the transaction.
	Rollback(ctx context.Context) error
	// Savepoint, RollbackTo and ReleaseSavepoint send the statements of these
	// names. RollbackTo leaves the savepoint in place. Savepoint may arrange that
	// it travels with the next statement, see [Flusher].
	Savepoint(ctx context.Context, name string) error
	RollbackTo(ctx context.Context, name string) error
	ReleaseSavepoint(ctx context.Context, name string) error
	// FirstRow runs a statement of dbscope's own, in the transaction if one is open,
	// and returns its first row as text, NULL as an empty string; nil where it
	// has none.
	FirstRow(ctx context.Context, statement string) ([]string, error)
	// Check tells what a failed statement did to the transaction; with a nil
	// error, whether one that was aborted is so still. It may ask the server.
	Check(ctx context.Context, err error) Fate
	// Release gives the connection back to the pool, or closes it where it
	// must not be used again.
	Release(reuse bool)
}

// Ender is a [Conn] of a database that has statements which commit the transaction
// they are part of.
type Ender interface {
	// Ended returns an error where a statement has done that, and else nil. It may
	// ask the server. From then on nothing may be sent: RollbackTo and
	// ReleaseSavepoint do nothing, Rollback and the rest return that error, and the
	// outcome of Commit is Unknown.
	Ended() error
}

// Flusher is a [Conn] whose Savepoint travels with the next statement.
type Flusher interface {
	// Flush sends it now: a test's savepoints must not be cancelled with a
	// statement.
	Flush(ctx context.Context) error
}

// Looker is a [Conn] that can see whether the server has ended the session.
type Looker interface {
	// Look returns the error with which it has, and else nil. It sends nothing
	// and does not wait. It is called before COMMIT is sent to any database of a
	// scope.
	Look() error
}

// Dialecter is a [Conn] that knows how its database reads SQL, for packages that have
// statements of their own.
type Dialecter interface {
	// Dialect returns [AnyDialect] where that is not known.
	Dialect() Dialect
}

// PipelinedEnder is a [Conn] that need not wait for the answer to COMMIT or ROLLBACK.
type PipelinedEnder interface {
	// EndPipelined sends COMMIT of a transaction that could not write, or ROLLBACK, and
	// reports whether it has. The answer is taken out of what the connection brings
	// next; where it is not that the transaction has ended, or never comes, what is on
	// the connection then fails as with one that is lost. It reports false, having
	// sent nothing, where the answer has to be waited for, as where the transaction
	// may have written after all. It does not block.
	EndPipelined(commits bool) bool
}

// LastCommitter is a [Conn] whose COMMIT can travel with a transaction's last statement.
type LastCommitter interface {
	// CommitBehind makes the call of Commit, or CommitWithQueries, that comes next run
	// the statement, with COMMIT behind it. Where the statement fails the outcome is
	// RolledBack, with its error, unless nobody knows what the server did.
	CommitBehind(statement func(context.Context) error)
}

// Execer is a [Conn] that runs statements with arguments for packages that have some of
// their own, of [Session.CommitWith] and [Session.CommitBehind]. The statement and its
// arguments are what the database's library takes.
type Execer interface {
	ExecArgs(ctx context.Context, statement string, args ...any) error
}

// Resetter is a [Conn] that can bring its connection back to the state of a new
// one. Connections of others are closed where dbscope.ResetConnections asks for
// that.
type Resetter interface {
	// Reset is called before Release(true), with no transaction and no rows open.
	// After an error the connection is closed. It may block until ctx is done.
	Reset(ctx context.Context) error
}

// Setting is one of a transaction, see dbscope.Settings.
type Setting struct{ Name, Value string }

// Setter is a [Conn] of a database whose transactions can have settings of their own,
// as dbscope.Settings makes them. A DB with that option refuses to begin on others.
type Setter interface {
	// CanSet returns an error where the database has none after all. It is called
	// before Begin, and sends nothing.
	CanSet() error
	// Set makes the settings in the open transaction, one after the other; they end
	// with it, however it ends. They may travel with the next statement, which then
	// fails where one of them does, and is not run. No value becomes a part of a
	// statement's text.
	Set(ctx context.Context, settings []Setting) error
}

// TxOptions are those of a scope's transactions. What the database does not
// have, Begin refuses.
type TxOptions struct {
	sql.TxOptions
	Deferrable bool // see dbscope.Deferrable
}

// Outcome is what became of a transaction.
type Outcome int

// The outcomes of a transaction. The zero value is Unknown on purpose.
const (
	Unknown    Outcome = iota // the answer to COMMIT was lost
	Committed                 // durable
	RolledBack                // nothing of it is stored
)

func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case RolledBack:
		return "rolled back"
	default:
		return "unknown"
	}
}

// Fate is what a failed statement did to its transaction.
type Fate int

// The fates of a transaction. The zero value is Lost on purpose.
const (
	Lost    Fate = iota // the connection is gone, or must not be used again
	Undone              // the server ended the transaction; the connection is fine
	Aborted             // the server refuses all but a rollback, whole or to a savepoint
	Intact              // the statement had no effect, the transaction goes on
)

// ErrNotSent marks the error of a statement that the adapter refused without
// sending anything: the transaction is as it was, Check is not asked. Passed to Exit
// alone, without words around it, it also says that the statement is about to come
// again, to be prepared and then run.
var ErrNotSent = errors.New("statement not sent")

// ErrUnconfirmed is the error of a commit whose outcome is unknown though the
// server has done it: another question to that server would tell nothing.
var ErrUnconfirmed = errors.New("the server has committed, but its wait for a synchronous standby was cancelled, " +
	"so that the commit may be lost with it")

// ErrEnded is the error of a commit whose outcome is unknown since a statement had
// ended the transaction before: even one that was begun read-only may have stored
// something then.
var ErrEnded = errors.New("a statement ended the transaction behind the scope's back")

// Gate is an adapter's way into a DB: it finds the session for a context. It
// is safe for concurrent use. The function dbscope.Gate returns it.
type Gate interface {
	// Session returns the session of the context's scope without opening it.
	// Where there is no scope and the DB allows that, it returns a session
	// that runs each statement on a connection of its own, without a
	// transaction.
	Session(ctx context.Context) (Session, error)
	// SessionOrUnscoped is Session for the statements of a library that is being
	// opened: where there is no scope it does as if the DB allowed that.
	SessionOrUnscoped(ctx context.Context) (Session, error)
	// Engine returns the pool of the current host and opens it on first use.
	Engine(ctx context.Context) (Engine, error)
}

// Rows are what a statement leaves open on its connection, the results of a batch
// too. They must be comparable.
type Rows interface {
	// Close closes them for the core, which ends their transaction, and returns
	// before ctx has ended, which it does by its deadline alone. Where a library
	// cannot close them by then, it returns an error for which Check answers Lost;
	// whoever is still busy with the connection closes it when that is over, and
	// Release leaves it alone.
	Close(ctx context.Context) error
}

// Session is the core's end of one transaction: the whole one, or a block
// nested in it. Its methods are safe for concurrent use: a second statement
// beside a running one is refused, never sent.
//
// A statement is Enter, the call of the library, then Exit; one that returns
// rows is Enter, Hold, then Resume and Hold around each read, and at last
// Resume and Exit.
type Session interface {
	// ID returns a number that no other transaction of the process has, and that
	// a nested block shares with the transaction it is in. What outlives a session
	// keeps this instead of the session, and of the context that came with it.
	ID() uint64
	// Enter admits a statement: it opens the session on first use and returns
	// its connection. After an error nothing may be sent.
	Enter(ctx context.Context) (Conn, error)
	// Observer returns who is to be told of the statement that was admitted, before it
	// is sent; nil where nobody is.
	Observer() StatementObserver
	// Exit ends the statement that Enter or Resume admitted, and returns err
	// as the user should see it.
	Exit(ctx context.Context, err error) error
	// Hold leaves the admitted statement's rows open. The core closes them
	// when the transaction ends first; then Resume answers with an error.
	Hold(rows Rows)
	// Resume admits the next read from rows left open, the same that Hold got.
	Resume(rows Rows) error
	// Commit and Rollback end the transaction, or the nested block, for a
	// native handle. They block. ctx need not be alive.
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
	// CommitWith opens the session where it is not open, runs the statement as the last
	// of the transaction, and commits; where the connection is a [LastCommitter] both
	// take one round trip. The statement is called once at most, after the hooks of
	// BeforeCommit, with a context that ends by its deadline alone. The error is that
	// of Commit, and has the statement's own in it.
	CommitWith(ctx context.Context, statement func(ctx context.Context, c Conn) error) error
	// CommitBehind makes the commit of the transaction, whoever asks for it, run the
	// statement before it, as CommitWith does; of several, each in its turn. A rollback
	// forgets it, and where the statement fails nothing is committed. It may be called
	// by a hook of BeforeCommit, while the transaction is open. It does not block. A
	// nested block refuses it, and so does an adopted transaction.
	CommitBehind(statement func(ctx context.Context, c Conn) error) error
	// Begin nests a block: a savepoint; without a scope, a transaction.
	// Options that the open transaction does not have are an error. A block is
	// undone when its ctx ends, which is the rule of database/sql; an adapter
	// whose library has another passes a context that does not end.
	Begin(ctx context.Context, opts sql.TxOptions) (Session, error)
	// Join nests a block that is part of the open transaction: committing it
	// does nothing, rolling it back dooms the transaction, or the innermost
	// savepoint block around it.
	Join(ctx context.Context, opts sql.TxOptions) (Session, error)
}

// StatementObserver is told of statements. An adapter asks the session for it once Enter
// has returned:
//
//	if o := session.Observer(); o != nil {
//		ctx = o.Start(ctx, driver.Statement{Text: text})
//	}
//
// The core itself tells the observer of the statement's end.
type StatementObserver interface {
	// Start returns the context to send the statement with, and to read its rows with.
	Start(ctx context.Context, s Statement) context.Context
}

// Statement is what observers are told of one.
type Statement struct {
	Text     string // of the first, where there are several; empty where there is none
	Count    int    // how many are sent together; 0 stands for 1
	Prepares bool   // it is prepared, and not run
}

// Unscoped is the [Session] of a statement without a scope.
type Unscoped interface {
	Session
	// Keep makes the session keep its connection when a statement is done, for other
	// statements, each still on its own, and for transactions of Begin, until
	// GiveBack. It reports false where each statement has to have a session of its
	// own. It is called before the first statement is done, and may be again. A
	// session that could not be opened keeps nothing, and is over.
	Keep() bool
	// GiveBack gives the connection back and ends the session. It blocks for as long
	// as the reset of dbscope.ResetConnections takes.
	GiveBack()
	// Bare reports whether nothing is to be done on the statement's connection before
	// and after it, so that the library's own pool may choose another one for it.
	Bare() bool
}
