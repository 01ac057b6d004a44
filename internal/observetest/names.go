// Package observetest has observers for tests.
package observetest

import (
	"context"

	"github.com/dbscope/dbscope/observe"
)

// Names receives the name of each unit that is over. It has room for those that nobody
// has asked for.
type Names chan string

// Start implements [observe.Observer].
func (n Names) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	if e.Kind == observe.Unit {
		return ctx, n
	}
	return ctx, nil
}

// End implements [observe.Span].
func (n Names) End(_ context.Context, e observe.Event) {
	if e.Kind == observe.Unit {
		n <- e.Name
	}
}
