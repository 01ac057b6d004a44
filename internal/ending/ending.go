// Package ending has the context that commits and rollbacks run under.
package ending

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Context is alive whatever became of the caller's context, whose values it has,
// until its deadline. Unlike one of the context package it costs a timer only
// where somebody waits for it. It is safe for concurrent use.
type Context struct {
	context.Context // for the values of the caller's
	deadline        time.Time

	mu    sync.Mutex
	done  chan struct{} // once asked for
	timer *time.Timer   // closes done
	err   error         // once done is closed, or the end is over
	after []*func()     // to call then
}

// New returns the Context of an end that may take the time d. Cancel lets go of
// what waits for it.
func New(ctx context.Context, d time.Duration) *Context {
	return &Context{Context: context.WithoutCancel(ctx), deadline: time.Now().Add(d)}
}

// Deadline implements [context.Context].
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements [context.Context].
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		} else {
			c.start()
		}
	}
	return c.done
}

// start lets the time run. The caller holds mu.
func (c *Context) start() {
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.finish(context.DeadlineExceeded) })
	}
}

// Err implements [context.Context].
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.done == nil && !time.Now().Before(c.deadline) {
		c.err = context.DeadlineExceeded
	}
	return c.err
}

// AfterFunc is what [context.AfterFunc] and the contexts made from this one look
// for: without it each would wait in a goroutine.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.start()
	c.after = append(c.after, &f)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.after, &f)
		if i >= 0 {
			c.after = slices.Delete(c.after, i, i+1)
		}
		return i >= 0
	}
}

// Cancel is for when the end is over.
func (c *Context) Cancel() { c.finish(context.Canceled) }

func (c *Context) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		if c.timer != nil {
			c.timer.Stop()
		}
		if c.done != nil {
			close(c.done)
		}
		for _, f := range c.after {
			go (*f)()
		}
		c.after = nil
	}
}
