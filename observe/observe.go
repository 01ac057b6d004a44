// Package observe has the events of units of work. They are for those who want to see what
// units do: in a log, in traces, in metrics, or on a page. [dbscope.Observe] gives an
// [Observer] to a DB or to a unit. The packages below this one have some that are ready to
// use.
//
// An event is something that begins and ends. Events are inside one another:
//
//	Unit                         a request, a message, a job
//	├─ Wait                      for a connection
//	├─ Connection                from when it was taken until it is given back
//	├─ Transaction               from BEGIN until it is over
//	│  ├─ Begin                  where that is a statement of its own
//	│  ├─ Statement
//	│  ├─ Savepoint, ReleaseSavepoint, RollbackTo
//	│  └─ Commit, Rollback
//	├─ Hook
//	├─ Call                      of another service, while a transaction is open
//	├─ Refusal                   of a use of a DB
//	└─ Retry                     the wait before the unit is run again
//	Switch                       of a DB to another host
//
// When one of them begins that is not inside another, the Observer's Start is called. It
// returns a [Span], or nil if it does not want to know more. When something begins
// inside, that Span's Start is called in the same way, and when it is over, its End. So
// an observer keeps what it knows of a unit in a Span of its own, and needs no map to
// find it again:
//
//	type slow struct{ limit time.Duration }
//
//	func (s slow) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
//		if e.Kind != observe.Unit {
//			return ctx, nil
//		}
//		return ctx, s
//	}
//
//	func (s slow) End(ctx context.Context, e observe.Event) {
//		if e.Duration > s.limit {
//			slog.WarnContext(ctx, "slow", "unit", e.Name, "took", e.Duration)
//		}
//	}
//
// What begins is done with the context that Start returns. So spans of tracers nest: a
// statement is sent with the context that the observer has returned for it, and a tracer
// of the driver finds the span in that.
//
// Later versions may add kinds and fields of events. So an observer returns nil for kinds
// that it does not know.
package observe

import (
	"context"
	"time"
)

// Observer is told of units of work. It is comparable, safe for concurrent use, does not
// block and does not panic: what it does adds to the time of what it observes. It must
// not use the DBs that it observes in the context that it gets.
type Observer interface {
	// Start is called as something begins, by the goroutine that begins it. It returns
	// the context for that, which is ctx or is made from it, and the Span that gets the
	// rest. With a nil Span nothing more is reported: neither the end nor what is inside.
	Start(ctx context.Context, e Event) (context.Context, Span)
}

// Span is told of something that has begun: with Start of what begins inside it, with
// End of its end.
type Span interface {
	Observer
	// End is called once, when it is over, with the context that Start has returned; for
	// a unit, and for a transaction, perhaps by another goroutine than Start. What is
	// inside has ended before, with a few exceptions: a statement that runs while its
	// unit ends, which then ends as that statement returns; and Hook, Retry and Refusal,
	// which may come after the end of the unit.
	End(ctx context.Context, e Event)
}

// Kind says what begins or ends.
type Kind uint8

// The kinds. Each has the fields of [Event] that are named for it, and those for all.
const (
	// Unit is a unit of work. An observer of a DB is told of a unit when that first uses
	// the DB, with the time at which the unit has begun, and the context with which it
	// has: what Start then returns as the context is not used.
	Unit Kind = iota + 1
	// Wait is for a connection, from the pool of a host that was chosen.
	Wait
	// Connection is one that a unit has taken, until it gives it back.
	Connection
	// Transaction is one that begins on a connection, until it is over.
	Transaction
	// Begin is BEGIN, and what goes with it. Where BEGIN travels with the first statement
	// it takes no time.
	Begin
	// Statement is one of the application's, with the reading of its rows; or several
	// that were sent together.
	Statement
	// Prepare prepares a statement, and does not run it.
	Prepare
	// Savepoint, ReleaseSavepoint and RollbackTo are the statements of these names. Where
	// SAVEPOINT travels with the next statement it takes no time.
	Savepoint
	ReleaseSavepoint
	RollbackTo
	// Commit is COMMIT.
	Commit
	// Rollback is ROLLBACK.
	Rollback
	// Hook is a function that was registered for the end of a unit or a transaction.
	Hook
	// Call is one that leaves the process while a transaction of the unit is open; see
	// package heldscope, which finds them.
	Call
	// Retry is the wait before a unit, or an Atomic block, is run again. The next attempt
	// is a unit of its own.
	Retry
	// Switch sends the sessions of a DB to another host.
	Switch
	// Refusal is of a use of a DB in a unit that is over, or whose session another
	// goroutine uses: Err is then [dbscope.ErrScopeEnded] or [dbscope.ErrSessionBusy],
	// which whoever runs on after its unit may not look at. It takes no time.
	Refusal
)

// kinds are the names of the kinds.
var kinds = [...]string{
	Unit: "unit", Wait: "wait", Connection: "connection", Transaction: "transaction", Begin: "begin",
	Statement: "statement", Prepare: "prepare", Savepoint: "savepoint", ReleaseSavepoint: "release savepoint",
	RollbackTo: "rollback to savepoint", Commit: "commit", Rollback: "rollback", Hook: "hook", Call: "call",
	Retry: "retry", Switch: "switch", Refusal: "refusal",
}

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return ""
}

// Event is what is known of something when it begins, and when it is over. Fields that
// do not belong to its kind are zero.
type Event struct {
	Kind Kind
	// Time is when it has begun.
	Time time.Time
	// Duration is how long it took. It is 0 as it begins.
	Duration time.Duration
	// Err is what it failed with. As a Retry begins it is why there is one. It may be an
	// error of the database, with values of the user's in it.
	Err error

	// Unit is the number of the unit, which no other one of the process has; 0 outside
	// of units. Parent is that of the unit that it was begun in, or 0.
	Unit, Parent uint64
	// Name is the unit's, from the option dbscope.Name or the middleware, which may not
	// know it from the beginning. It may be empty.
	Name string
	// ReadOnly: the unit, or transaction, was begun with the option of that name.
	ReadOnly bool

	// DB is the name of the DB. A Call has those of all whose transactions are open, with
	// commas between.
	DB string
	// Host is the host that was chosen for a Wait, Connection, Transaction and what is
	// inside of that; of a Switch the new one. It may be empty, where the connection
	// string has it. Replica: it is one that only reads.
	Host    string
	Replica bool
	// From is the host before a Switch.
	From string

	// Text is that of a Statement, or of the first of several, as far as the adapter has
	// it: it may hold values of the user's where the application puts them there. Of a
	// Savepoint it is the name, of a Hook "before commit", "after commit", "after
	// rollback" or "after end", of a Call whom it calls.
	Text string
	// Statements is how many a Statement consists of.
	Statements int
	// LeftOpen: the rows of a Statement were left open, and closed by the end of the
	// transaction.
	LeftOpen bool
	// Savepoints is how many live ones the transaction has, as a Savepoint begins that
	// one included.
	Savepoints int
	// Attempt is the number of the attempt for which a Retry waits, or which a Unit was;
	// the first is 1. It is 0 where nobody counts.
	Attempt int
	// RunAgain: the Unit is to be run again after what it failed with, unless whoever
	// began it decides otherwise.
	RunAgain bool
	// Connections is how many the unit has, and those inside it, as a Connection begins.
	// MaxConnections is what dbscope.MaxConns says of them, 0 where it says nothing.
	// Where the unit itself was not told, both are of the nearest unit around it that
	// was.
	Connections, MaxConnections int

	// Outcome is what became of a Transaction, Commit, Rollback or Unit. Of a Unit it is
	// that of its transactions together.
	Outcome Outcome
	// Transactions is how many a Unit had.
	Transactions int
}

// Outcome is what became of work.
type Outcome uint8

// The outcomes.
const (
	None       Outcome = iota // there was no work
	Committed                 // durable
	RolledBack                // nothing of it is stored
	Unknown                   // the answer to COMMIT was lost
	Mixed                     // of several transactions each had its own
)

func (o Outcome) String() string {
	return [...]string{"none", "committed", "rolled back", "unknown", "mixed"}[min(o, Mixed)]
}
