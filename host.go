package dbscope

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
)

// hosts owns a DB's engine; siblings share it.
type hosts struct {
	name   string
	host   string
	open   func(ctx context.Context, host string) (driver.Engine, error)
	turn   chan struct{} // held while opening or closing
	engine atomic.Pointer[driver.Engine]
	closed atomic.Bool
}

func newHosts(name, host string, open func(context.Context, string) (driver.Engine, error)) *hosts {
	return &hosts{name: name, host: host, open: open, turn: make(chan struct{}, 1)}
}

// current returns the engine and opens it on first use, one caller at a time.
func (h *hosts) current(ctx context.Context) (driver.Engine, error) {
	if e := h.engine.Load(); e != nil {
		return *e, nil
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("dbscope: %s: waiting for the pool to open: %w", h.name, interrupted(ctx))
	}
	if e := h.engine.Load(); e != nil {
		return *e, nil
	}
	if h.closed.Load() {
		return nil, fmt.Errorf("dbscope: %s: the DB is closed", h.name)
	}
	e, err := h.open(ctx, h.host)
	if err != nil {
		return nil, fmt.Errorf("dbscope: %s: opening the pool: %w", h.name, err)
	}
	h.engine.Store(&e)
	return e, nil
}

func (h *hosts) close() error {
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	h.closed.Store(true)
	e := h.engine.Swap(nil)
	if e == nil {
		return nil
	}
	if err := (*e).Close(); err != nil {
		return fmt.Errorf("dbscope: %s: closing the pool: %w", h.name, err)
	}
	return nil
}
