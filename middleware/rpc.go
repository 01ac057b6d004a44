package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dbscope/dbscope"
)

// RPC is what the middlewares of frameworks for remote procedure calls share:
// a call is answered with messages and then a status, whose codes are gRPC's.
// R is a call as the framework knows it. It is safe for concurrent use.
type RPC[R any] struct {
	policy Policy[R]
	fail   func(*Failure) error
}

// NewRPC applies the options to the defaults: code OK commits, and errors go
// to the log. fail makes the framework's error of a failure; its text and code
// are what the client gets, and [errors.Is] must find what the failure wraps.
func NewRPC[R any, O ~func(*Policy[R])](log func(R, error), fail func(*Failure) error, opts []O) *RPC[R] {
	p := &RPC[R]{Policy[R]{Commit: func(_ R, code int) bool { return code == ok }, OnError: log}, fail}
	for _, set := range opts {
		set(&p.policy)
	}
	p.policy.Options = append([]dbscope.Option{dbscope.OnHookError(func(ctx context.Context, err error) {
		ctx.Value(unitKey[R]{}).(*Unit[R]).report(err)
	})}, p.policy.Options...)
	return p
}

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

// Unit is the scope of one call. Its Context is the handler's. Start begins it;
// Sending and Finish decide; Abandon must be deferred:
//
//	unit, started := rpc.Start(ctx, call)
//	if !started {
//		return handler(ctx, request)
//	}
//	defer unit.Abandon()
//	response, err := handler(unit.Context, request)
//	if failure := unit.Finish(codeOf(err)); failure != nil {
//		return nil, failure
//	}
//	return response, err
//
// Sending is safe for concurrent use; the rest is for the goroutine that calls
// the handler.
type Unit[R any] struct {
	Context context.Context

	rpc     *RPC[R]
	request R
	scope   *dbscope.Scope
	done    bool // Finish was reached and did not panic, or there is no scope

	mu      sync.Mutex // guards the rest; nothing foreign is called under it
	phase   phase
	failure error // why the phase is failed
}

type phase uint8

const (
	undecided phase = iota
	deciding
	sending // the first message was let through
	failed
	over
)

// unitKey leads from hooks of the scope that report an error to the call.
type unitKey[R any] struct{}

// Start begins the unit of a call, and reports whether the call has one: it has
// not where its context has a scope already, nor where the policy says so. With
// [Policy.TokenInTrailer] the latter has one without a scope, for its token to
// count. It does no I/O.
func (p *RPC[R]) Start(ctx context.Context, r R) (u *Unit[R], started bool) {
	ctx, changed := p.policy.ReadYourWrites(ctx, r)
	if !p.policy.Scoped(ctx, r) {
		if !changed {
			return nil, false
		}
		return &Unit[R]{Context: ctx, phase: sending, done: true}, true
	}
	u = &Unit[R]{rpc: p, request: r}
	u.Context, u.scope = p.policy.Begin(context.WithValue(ctx, unitKey[R]{}, u), r)
	return u, true
}

var (
	errUndecided = errors.New("dbscope: a message was sent while the unit of work was being decided: send it before or after")
	errOver      = errors.New("dbscope: a message was sent after the handler had returned")
	errOpenRows  = fmt.Errorf("dbscope: the first message was sent while rows are open, or a statement runs, in a scope that "+
		"may write, and the commit would close them: close the rows first, or use a read-only scope: %w", dbscope.ErrSessionBusy)
)

// Sending must be called before each message, which is sent only where it
// returns nil. The first one decides: the unit is committed, or what the policy
// says for code OK. What the handler does later is a new transaction, which
// Finish ends. A read-only scope is left alone. After an error nothing but the
// failure that Finish returns reaches the client. It blocks for the commit.
func (u *Unit[R]) Sending() error {
	u.mu.Lock()
	was, failure := u.phase, u.failure
	if was == undecided {
		u.phase = deciding
	}
	u.mu.Unlock()
	switch was {
	case undecided:
		return u.decide()
	case deciding:
		return errUndecided
	case over:
		return errOver
	}
	return failure
}

func (u *Unit[R]) decide() error {
	var err error
	if !u.scope.ReadOnly() {
		if err = errOpenRows; !u.scope.Busy() {
			err = u.rpc.policy.Decide(u.Context, u.scope, u.request, ok)
		}
	}
	if err == nil {
		u.enter(sending, nil)
		return nil
	}
	u.report(err) // a handler may overlook it
	failure := u.failed(err)
	u.enter(failed, failure)
	if errors.Is(err, errOpenRows) {
		return err // which is for the handler's programmer
	}
	return failure
}

// Finish is the end of a handler that returned; code is how it went. It
// commits or undoes what is open, as the policy says, and gives the connections
// back. Where it returns an error, the client must get that and nothing else.
// It blocks for the end.
func (u *Unit[R]) Finish(code int) error {
	if u.scope == nil {
		return nil
	}
	was := u.enter(over, nil)
	failure := u.failure // which nothing changes any more
	var err error
	switch was {
	case deciding: // a hook panicked and the handler recovered
		failure = u.failed(errUndecided)
		fallthrough
	case failed:
		u.report(u.scope.Rollback(u.Context))
	default:
		err = u.rpc.policy.Decide(u.Context, u.scope, u.request, code)
	}
	u.report(u.scope.Release(u.Context))
	if err != nil {
		if was == sending {
			err = fmt.Errorf("dbscope: after the first message was sent: %w", err)
		}
		u.report(err)
		failure = u.failed(err)
	}
	u.putToken()
	u.done = true
	return failure
}

// Abandon undoes the unit where its handler did not return, and does nothing
// after Finish. It blocks for the rollback.
func (u *Unit[R]) Abandon() {
	if !u.done {
		u.enter(over, nil)
		u.report(u.scope.Release(u.Context))
		u.putToken() // a recovery outside answers
	}
}

// putToken is for the end, when all that the call commits is committed. The
// trailer still takes it then, whatever was sent before.
func (u *Unit[R]) putToken() {
	if put := u.rpc.policy.putToken; put != nil {
		if token := u.rpc.policy.NewToken(u.Context); token != "" {
			put(u.request, token)
		}
	}
}

// enter returns the phase before.
func (u *Unit[R]) enter(p phase, failure error) phase {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.phase
	if was != over { // which a goroutine that the handler left behind does not change
		u.phase, u.failure = p, cmp.Or(failure, u.failure)
	}
	return was
}

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

func (u *Unit[R]) report(err error) { u.rpc.policy.Report(u.request, err) }
