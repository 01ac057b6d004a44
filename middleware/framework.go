package middleware

import (
	"context"
	"sync"

	"github.com/dbscope/dbscope/internal/unit"
)

// FrameworkKey is the key of a value in a framework's own context, such as
// *gin.Context, which handlers pass as a [context.Context] in place of the
// request's: a [FrameworkContext], or a [RefusedContext].
const FrameworkKey = unit.FrameworkKey

// FrameworkContext leads from a framework's own context to that of its request, so
// that either may be passed. It is for a framework whose context answers only for
// some keys. It is safe for concurrent use.
type FrameworkContext struct {
	mu      sync.Mutex
	request func() context.Context // nil once the request is over
	last    context.Context
}

// NewFrameworkContext returns a FrameworkContext. request returns the context that
// the request has now, which inner middlewares may have changed.
func NewFrameworkContext(request func() context.Context) *FrameworkContext {
	return &FrameworkContext{request: request}
}

// RequestContext returns the request's context, once the request is over the one that
// it had at the end. The error is always nil.
func (f *FrameworkContext) RequestContext() (context.Context, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.request != nil {
		return f.request(), nil
	}
	return f.last, nil
}

// End must be called when the framework's handlers have returned, since frameworks use
// their contexts again: what still has a copy of this one finds a scope that is over,
// and not the next request's.
func (f *FrameworkContext) End() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.request != nil {
		f.last, f.request = f.request(), nil
	}
}

// RefusedContext is for a framework whose own context must not be passed in place of
// the request's. Its text says what to pass, and is part of the error that whoever
// does it gets.
type RefusedContext string

// RequestContext returns that error.
func (r RefusedContext) RequestContext() (context.Context, error) { return nil, refusedContext(r) }

type refusedContext string

func (r refusedContext) Error() string { return string(r) }
