package middleware

import (
	"context"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope"
)

// The codes of gRPC that mean something here.
const (
	ok               = 0
	canceled         = 1
	unknown          = 2
	deadlineExceeded = 4
	aborted          = 10
	unimplemented    = 12
	internal         = 13
	unavailable      = 14
	dataLoss         = 15
)

// Failure is what the client gets in place of an answer, or of an error that
// tells of the inside of the service. Its text is for the client's eyes; what it
// wraps is what went wrong, and is not.
type Failure struct {
	Code  int // the framework's word for it: of gRPC, or a status of HTTP
	text  string
	cause error
}

// Masked makes the failure that the client gets in place of an error.
func Masked(err error, code int, text string) *Failure { return &Failure{code, text, err} }

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

// mask is what the client gets in place of a handler's error, with its code, and
// whether that is another one. An error that says itself what the client is to
// know stays as it is, and so does one that the policy shows.
func (p *RPC[R]) mask(err error) (code int, masked bool, answer error) {
	if err == nil {
		return ok, false, nil
	}
	code, own := p.codeOf(err)
	if own || code != ok && p.policy.Shows(err) {
		return code, false, err
	}
	f := Masked(err, internal, "internal error")
	switch code {
	case canceled:
		f.Code, f.text = code, context.Canceled.Error()
	case deadlineExceeded:
		f.Code, f.text = code, context.DeadlineExceeded.Error()
	}
	return f.Code, true, p.fail(f)
}

// reportMasked passes on what the client is not told. Of a call that was given
// up nobody misses it.
func (p *RPC[R]) reportMasked(ctx context.Context, r R, err error) {
	if ctx.Err() == nil {
		p.policy.Report(r, err)
	}
}

// failed makes the framework's error of what kept the unit from being stored.
func (u *Unit[R]) failed(err error) error {
	f := &Failure{internal, "internal error", err}
	switch {
	case errors.Is(err, dbscope.ErrCommitUnknown):
		f.text = "it is not known whether the work was done"
	case errors.As(err, new(*SlowClientError)):
		f.Code, f.text = deadlineExceeded, "the client was too slow: the work was undone"
	case u.scope.Transient(err):
		f.Code, f.text = aborted, "the work was in conflict with other work and was undone: try again"
	}
	return u.rpc.fail(f)
}
