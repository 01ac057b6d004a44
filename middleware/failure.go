package middleware

import (
	"errors"
	"fmt"

	"github.com/dbscope/dbscope"
)

// The codes of gRPC that this package decides.
const (
	ok       = 0
	aborted  = 10
	internal = 13
)

// Failure is what the client gets in place of an answer. Its text is for the
// client's eyes; what it wraps is what went wrong, and is not.
type Failure struct {
	Code  int // Aborted, where nothing is stored and the same call may succeed; else Internal
	text  string
	cause error
}

// Error tells nothing of the cause.
func (f *Failure) Error() string { return f.text }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.cause }

var (
	errUndecided = errors.New("dbscope: a message was sent while the unit of work was being decided: send it before or after")
	errOver      = errors.New("dbscope: a message was sent after the handler had returned")
	errOpenRows  = fmt.Errorf("dbscope: the first message was sent while rows are open, or a statement runs, in a scope that "+
		"may write, and the commit would close them: close the rows first, or use a read-only scope: %w", dbscope.ErrSessionBusy)
)

// failed makes the framework's error of what kept the unit from being stored.
func (u *Unit[R]) failed(err error) error {
	f := &Failure{internal, "internal error", err}
	switch {
	case errors.Is(err, dbscope.ErrCommitUnknown):
		f.text = "it is not known whether the work was done"
	case u.scope.Transient(err):
		f.Code, f.text = aborted, "the work was in conflict with other work and was undone: try again"
	}
	return u.rpc.fail(f)
}
