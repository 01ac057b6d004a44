package dbscope

import (
	"context"
	"sync"
	"time"
)

// endingContext is what commits and rollbacks run under: alive whatever became
// of the caller's context, and bounded. Unlike one of the context package it
// costs a timer only where somebody waits for it.
type endingContext struct {
	context.Context // for the values of the caller's
	deadline        time.Time

	mu    sync.Mutex
	done  chan struct{} // once asked for
	timer *time.Timer   // closes done
	err   error         // once done is closed, or the end is over
}

func endContext(ctx context.Context, d time.Duration) *endingContext {
	return &endingContext{Context: context.WithoutCancel(ctx), deadline: time.Now().Add(d)}
}

// Deadline implements [context.Context].
func (c *endingContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements [context.Context].
func (c *endingContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		} else {
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.finish(context.DeadlineExceeded) })
		}
	}
	return c.done
}

// Err implements [context.Context].
func (c *endingContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.done == nil && !time.Now().Before(c.deadline) {
		c.err = context.DeadlineExceeded
	}
	return c.err
}

// cancel lets go of what waits for the context.
func (c *endingContext) cancel() { c.finish(context.Canceled) }

func (c *endingContext) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		if c.done != nil {
			c.timer.Stop()
			close(c.done)
		}
	}
}
