package middleware

import (
	"context"

	"github.com/dbscope/dbscope"
)

// RPC is what the middlewares of frameworks for remote procedure calls share:
// a call is answered with messages and then a status, whose codes are gRPC's.
// R is a call as the framework knows it. It is safe for concurrent use.
type RPC[R any] struct {
	policy Policy[R]
	codeOf func(error) (code int, own bool)
	fail   func(*Failure) error
}

// NewRPC applies the options to the defaults: code OK commits, and errors go
// to the log. codeOf tells the code that the framework sends for a handler's
// error, and whether that is the error's own, which then says itself what the
// client is to know. fail makes the framework's error of a failure; its text and
// code are what the client gets, and [errors.Is] must find what the failure wraps.
func NewRPC[R any, O ~func(*Policy[R])](log func(R, error), codeOf func(error) (code int, own bool), fail func(*Failure) error, opts []O) *RPC[R] {
	p := &RPC[R]{codeOf: codeOf, fail: fail}
	for _, set := range opts {
		set(&p.policy)
	}
	if p.policy.Commit == nil { // an error may have any code, also one that were a success in HTTP
		p.policy.Commit = func(_ R, code int) bool { return code == ok }
	}
	if p.policy.OnError == nil {
		p.policy.OnError = log
	}
	p.policy.Options = append([]dbscope.Option{dbscope.OnHookError(func(ctx context.Context, err error) {
		ctx.Value(unitKey[R]{}).(*Unit[R]).report(err)
	})}, p.policy.Options...)
	return p
}

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
		return &Unit[R]{Context: ctx, rpc: p, request: r, phase: sending, done: true}, true
	}
	u = &Unit[R]{rpc: p, request: r}
	u.Context, u.scope = p.policy.Begin(context.WithValue(ctx, unitKey[R]{}, u), r)
	p.policy.WaitForClient(&u.wait, u.scope, unitSide[R]{u})
	return u, true
}

// Answer returns what the client of a call without a unit gets for the error of
// its handler, nil where that is none: as Finish does for a unit.
func (p *RPC[R]) Answer(ctx context.Context, r R, err error) error {
	_, masked, answer := p.mask(err)
	if masked {
		p.reportMasked(ctx, r, err)
	}
	return answer
}
