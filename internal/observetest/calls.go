package observetest

import (
	"context"
	"sync"

	"github.com/dbscope/dbscope/observe"
)

// Calls keeps whom units have called while a transaction was open.
type Calls struct {
	mu   sync.Mutex
	whom []string
}

// Start implements [observe.Observer].
func (c *Calls) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	return ctx, c
}

// End implements [observe.Span].
func (c *Calls) End(_ context.Context, e observe.Event) {
	if e.Kind == observe.Call {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.whom = append(c.whom, e.Text)
	}
}

// Take returns whom they have called since the last time.
func (c *Calls) Take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	whom := c.whom
	c.whom = nil
	return whom
}
