// Package errs has what is done with errors everywhere.
package errs

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// Errors of package dbscope, which documents them.
var (
	ErrNoScope = errors.New("no scope in this context: pass on the request's context, or that of dbscope.Run, " +
		"or wrap the work in dbscope.Run or a middleware")
	ErrRolledBack      = errors.New("the transaction was rolled back")
	ErrCommitUnknown   = errors.New("the outcome of the commit is unknown")
	ErrOpenTransaction = errors.New("a transaction is open here")
	ErrScopeEnded      = errors.New("the scope of this context has ended: begin a new one with dbscope.Run")
	ErrNotReturned     = errors.New("the function panicked, or ended its goroutine") // of a unit, or a hook
	ErrSessionBusy     = errors.New("the session is busy with another statement or its open rows: " +
		"close the rows first, or give concurrent work scopes of its own with dbscope.Run in each goroutine (or a Group)")
)

// Answered is what a unit fails with whose answer tells of a failure: its code, which is
// a status of HTTP or one of gRPC's.
type Answered int

func (a Answered) Error() string { return "the answer has the code " + strconv.Itoa(int(a)) }

// Joined is [errors.Join] that keeps a lone error as it is: code that looks at
// its type finds what it would find without dbscope.
func Joined(errs ...error) error {
	var one error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if one != nil {
			return errors.Join(errs...)
		}
		one = err
	}
	return one
}

// Interrupted describes a context that is done: its error and its cause, both
// visible to [errors.Is].
func Interrupted(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// Only reports whether all that the error says is that the first one happened,
// or that its function was cancelled.
func Only(err, first error) bool {
	if reflect.ValueOf(err).Comparable() && (err == first || err == context.Canceled) { //nolint:errorlint // not what it wraps
		return true
	}
	switch wrapper := err.(type) { //nolint:errorlint // one level at a time
	case interface{ Unwrap() error }:
		return wrapper.Unwrap() != nil && Only(wrapper.Unwrap(), first)
	case interface{ Unwrap() []error }:
		return len(wrapper.Unwrap()) > 0 && !slices.ContainsFunc(wrapper.Unwrap(), func(e error) bool { return !Only(e, first) })
	}
	return false
}
