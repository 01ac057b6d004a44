package dbscope

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/pools"
)

// The errors a caller can act on. Those returned wrap one of these, name the
// database, and keep the cause for [errors.Is] and [errors.As].
var (
	// ErrNoScope: the context carries no scope, most likely since it is not the one
	// that the middleware or [Run] has made. Pass that on, or begin a unit with Run
	// or [Join], or open the DB with [AllowUnscoped].
	ErrNoScope = errs.ErrNoScope
	// ErrScopeEnded: the context's scope is over. Work that outlives its
	// request needs a scope of its own: call [Run] with that context.
	ErrScopeEnded = errs.ErrScopeEnded
	// ErrSessionBusy: a statement was asked for while another one of the same
	// session runs or has its rows open.
	ErrSessionBusy = errs.ErrSessionBusy
	// ErrRolledBack: the transaction is, or can only be, undone. A commit
	// returns it when nothing was stored, a statement when an earlier failure
	// ended the transaction.
	ErrRolledBack = errs.ErrRolledBack
	// ErrRollbackOnly: the scope was marked by [MarkRollback], and therefore
	// rolled back instead of committed.
	ErrRollbackOnly = errors.New("the scope was marked to roll back")
	// ErrCommitUnknown: the answer to COMMIT was lost, or is no promise. The
	// transaction may or may not be stored; do not repeat its work without
	// looking.
	ErrCommitUnknown = errs.ErrCommitUnknown
	// ErrPoolDeadlock: no connection can come free, since each is held by a unit
	// that waits for another one, such as a [Run] in a Run on a pool that is full.
	// The statement that would have completed the circle gets it at once, and the
	// others go on.
	ErrPoolDeadlock = pools.ErrDeadlock
	// ErrOpenTransaction: the call would end or change a transaction that
	// outer code has open.
	ErrOpenTransaction = errs.ErrOpenTransaction
)

// Outcome tells what became of one database's transaction when a scope was
// committed.
type Outcome struct {
	DB    string // the DB's name, see [Name]
	State OutcomeState
	Err   error // why; nil where committed, or undone because of another one
}

// OutcomeState is what became of a transaction, of which a [CommitError] tells.
type OutcomeState = driver.Outcome

// The states of an [Outcome].
const (
	Unknown    = driver.Unknown    // the answer to COMMIT was lost: see [ErrCommitUnknown]
	Committed  = driver.Committed  // durable
	RolledBack = driver.RolledBack // nothing of it is stored
)

// failed reports whether there was a transaction and it was not committed.
func (o Outcome) failed() bool { return o.DB != "" && o.State != driver.Committed }

// CommitError is the error of every commit that failed, of a scope or of one
// DB, and was not prevented by a hook. It wraps [ErrRolledBack] or [ErrCommitUnknown] and the driver's errors.
type CommitError struct {
	// Outcomes lists the databases that had an open transaction, in the order
	// of first use, which is the order of commit.
	Outcomes []Outcome
}

// Error names each database and its outcome.
func (e *CommitError) Error() string {
	var b strings.Builder
	b.WriteString("dbscope: commit failed")
	for i, o := range e.Outcomes {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %s", sep, o.DB, o.State)
		if o.Err != nil {
			fmt.Fprintf(&b, " (%v)", o.Err)
		}
	}
	return b.String()
}

// Unwrap returns the errors of the databases that did not commit.
func (e *CommitError) Unwrap() []error {
	var all []error
	for _, o := range e.Outcomes {
		if o.Err != nil {
			all = append(all, o.Err)
		}
	}
	return all
}
