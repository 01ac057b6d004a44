package middleware

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Unit is the scope of one call. Its Context is the handler's. Start begins it;
// Send and Finish decide; Abandon must be deferred:
//
//	unit, started := rpc.Start(ctx, call)
//	if !started {
//		response, err := handler(ctx, request)
//		return response, rpc.Answer(ctx, call, err)
//	}
//	defer unit.Abandon()
//	response, err := handler(unit.Context, request)
//	if err := unit.Finish(err); err != nil {
//		return nil, err
//	}
//	return response, nil
//
// Send, Sending and Receive are safe for concurrent use; the rest is for the
// goroutine that calls the handler.
type Unit[R any] struct {
	Context context.Context

	rpc     *RPC[R]
	request R
	scope   Scope
	wait    ClientWait
	done    bool // Finish was reached and did not panic, or there is no scope

	mu      sync.Mutex // guards the rest; nothing foreign is called under it
	phase   phase
	failure error // why the phase is failed
}

// Sending must be called before each message, which is sent only where it
// returns nil. The first one decides: the unit is committed, or what the policy
// says for code OK. What the handler does later is a new transaction, which
// Finish ends. A read-only scope goes on while rows are open, and is ended by
// the first message at which none are, as often as that happens. After an error
// nothing but the failure that Finish returns reaches the client. It blocks for
// the commit.
func (u *Unit[R]) Sending() error {
	u.mu.Lock()
	was, failure := u.phase, u.failure
	if was == undecided {
		u.phase = deciding
	}
	u.mu.Unlock()
	switch {
	case was == undecided:
		err := u.decide()
		if err == nil {
			return u.begin()
		}
		return u.refused(err)
	case was == deciding:
		return errUndecided
	case was == over:
		return errOver
	case was == sending && u.scope.Scope != nil:
		return u.refused(u.proceed())
	}
	return failure
}

// Send calls send, which sends a message, as Sending allows. How long its client
// may keep the unit's connections waiting is bounded, see [ClientWait]; then the
// unit is rolled back, and Send returns the failure once send has returned.
func (u *Unit[R]) Send(send func() error) error {
	if err := u.Sending(); err != nil {
		return err
	}
	return u.wait.Call(true, send)
}

// Receive calls receive, which waits for a message of the client, as Send does.
func (u *Unit[R]) Receive(receive func() error) error { return u.wait.Call(false, receive) }

// decide decides a scope that may write. A read-only one has nothing to decide.
func (u *Unit[R]) decide() error {
	if !u.scope.ReadOnly() {
		if u.scope.Busy() {
			return errOpenRows
		}
		if err := u.rpc.policy.Decide(u.Context, u.scope, u.request, ok); err != nil {
			return err
		}
	}
	return u.proceed()
}

// proceed gives back the connections on which nothing is open.
func (u *Unit[R]) proceed() error {
	commit := !u.scope.ReadOnly() || u.rpc.policy.Commit(u.request, ok)
	return u.scope.Stream(u.Context, commit)
}

// refused says why a message is not sent, if there is an error.
func (u *Unit[R]) refused(err error) error {
	if err == nil {
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

// Finish is the end of a handler that returned, with an error or nil. It commits
// or undoes what is open, as the policy says, and gives the connections back.
// Where it returns an error, the client must get that and nothing else: the
// failure of the commit, or what the client may know of the handler's error, see
// [Policy.ShowErrors]. It blocks for the end.
func (u *Unit[R]) Finish(err error) error {
	code, masked, answer := u.rpc.mask(err)
	if u.scope.Scope != nil {
		if isFailure(code) && u.Context.Err() == nil {
			u.scope.Failed(err)
		}
		if failure := u.end(code); failure != nil {
			return failure
		}
	}
	if masked {
		u.rpc.reportMasked(u.Context, u.request, err)
	}
	return answer
}

func (u *Unit[R]) end(code int) error {
	_ = u.wait.End() // the phase is failed then
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
		err = u.rpc.policy.Finish(u.Context, u.scope, u.request, code)
	}
	u.report(u.scope.End(u.Context))
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
		u.scope.Failed(ErrNotReturned)
		_ = u.wait.End()
		u.enter(over, nil)
		u.report(u.scope.End(u.Context))
		u.putToken() // a recovery outside answers
	}
}

// report passes an error on. That the client was too slow is told once, by who has
// noticed it.
func (u *Unit[R]) report(err error) {
	if err != nil && !errors.As(err, new(*SlowClientError)) {
		u.rpc.policy.Report(u.request, err)
	}
}

// unitSide implements [ClientSide]. The frameworks offer nothing that ends a call
// which is blocked: it returns when the client goes on, or away.
type unitSide[R any] struct{ u *Unit[R] }

func (s unitSide[R]) Fail(err error)   { s.u.enter(failed, s.u.failed(err)) }
func (s unitSide[R]) Wake(bool, bool)  {}
func (s unitSide[R]) Report(err error) { s.u.rpc.policy.Report(s.u.request, err) }
