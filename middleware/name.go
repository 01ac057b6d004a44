package middleware

import (
	"context"

	"github.com/dbscope/dbscope/internal/watch"
)

// Namer knows what a unit is called, for its observers: by its route, as a rule, see
// [dbscope.Name]. It is safe for concurrent use, and may be asked after the request is
// over.
type Namer interface {
	// UnitName returns the name, and whether that is final. Else it is asked again.
	UnitName() (name string, final bool)
}

// WithName returns a context whose units are called what the namer says. It is for a
// middleware that comes to know the route later; see [Policy] for others.
func WithName(ctx context.Context, n Namer) context.Context {
	return context.WithValue(ctx, watch.NamerKey{}, n)
}

// named is the context of a request whose name the policy knows.
type named[R any] struct {
	context.Context
	p *Policy[R]
	r R
}

// Value implements [context.Context].
func (n *named[R]) Value(key any) any {
	if key == (watch.NamerKey{}) {
		return n
	}
	return n.Context.Value(key)
}

// UnitName implements [Namer].
func (n *named[R]) UnitName() (name string, final bool) { return n.p.Name(n.r), true }
