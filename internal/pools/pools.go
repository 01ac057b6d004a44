// Package pools owns the pools of connections of a database: one for each host,
// of which a session uses one. It knows nothing of units of work but what it needs
// to tell when some of them wait for each other.
package pools

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/hostname"
)

// drainTimeout is how long [Pools.Close] waits for connections that are in use.
const drainTimeout = 30 * time.Second

// Open opens the pool of a host.
type Open func(ctx context.Context, host string) (driver.Engine, error)

// Pools are those of one database. They are safe for concurrent use.
type Pools struct {
	name   string
	open   Open
	router driver.Router        // or nil
	stop   func() error         // the router's use
	heard  func(left string)    // is told which host the router has left, or nil
	turn   chan struct{}        // held while opening, switching or closing
	host   atomic.Pointer[Host] // the current one, without a router
	drains sync.WaitGroup

	departures atomic.Uint64 // of hosts that were left; changed under mu
	takers     atomic.Int32  // sessions that take a connection

	routed sync.Map // name -> *Host, those that a router chose

	mu     sync.Mutex
	closed bool
	lent   int     // connections that are not waited for
	errs   []error // of pools that were closed in the background
}

// New returns the Pools of the database called name. The router chooses the host
// of each session; without one it is the host given. Nothing is opened.
//
// heard, where it is not nil, is told of each host that the router has left.
func New(name, host string, router driver.Router, open Open, heard func(left string)) *Pools {
	p := &Pools{name: name, open: open, router: router, heard: heard, turn: make(chan struct{}, 1)}
	p.host.Store(newHost(host, nil))
	if router != nil {
		p.stop = router.Use(checked(open), p.left)
	}
	return p
}

// checked is open for hosts that are some.
func checked(open Open) Open {
	return func(ctx context.Context, host string) (driver.Engine, error) {
		if err := checkHost(host); err != nil {
			return nil, err
		}
		return open(ctx, host)
	}
}

// checkHost refuses what is no host, wherever it came from, before it is pasted
// into a connection string, which it would change. It may be a whole connection
// string by mistake, with a password, and so the error does not repeat it.
func checkHost(name string) error {
	if name == "" {
		return nil // the connection string has the host
	}
	if err := hostname.Check(name); err != nil {
		return fmt.Errorf("what was given as the host is none, but a name or an address, perhaps with a port, is needed: %w", err)
	}
	return nil
}

// Name returns the database's name, for errors.
func (p *Pools) Name() string { return p.name }

// Router returns the router, or nil.
func (p *Pools) Router() driver.Router { return p.router }

// Host returns the name of the host of new sessions; with a router, of those that
// write.
func (p *Pools) Host() string {
	if p.router != nil {
		return p.router.Host()
	}
	return p.host.Load().name
}

// Engine returns the pool of the current host, with a router of the one that
// writes, and opens it on first use. It may block for that.
func (p *Pools) Engine(ctx context.Context) (driver.Engine, error) {
	if p.router != nil {
		return p.writing(ctx)
	}
	if e := p.host.Load().engine; e != nil {
		return e, nil
	}
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	defer p.leave()
	now := p.host.Load()
	if now.engine != nil {
		return now.engine, nil
	}
	e, err := p.openHost(ctx, now.name)
	if err != nil {
		return nil, err
	}
	p.host.Store(newHost(now.name, e))
	return e, nil
}

// take waits for the turn.
func (p *Pools) take(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the pool to open: %w", errs.Interrupted(ctx))
	}
}

func (p *Pools) leave() { <-p.turn }

// openHost opens a pool. The caller has the turn.
func (p *Pools) openHost(ctx context.Context, name string) (driver.Engine, error) {
	if p.isClosed() {
		return nil, errors.New("the DB is closed")
	}
	if err := checkHost(name); err != nil {
		return nil, err
	}
	e, err := p.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("opening the pool%s: %w", at(name), err)
	}
	return e, nil
}

func (p *Pools) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// Lend counts the connections that [Pools.Close] does not wait for.
func (p *Pools) Lend(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent += n
}

func at(host string) string {
	if host == "" {
		return ""
	}
	return " of host " + host
}

// SwitchTo makes another host the current one, once it answers. It may block for
// that, until ctx is done.
func (p *Pools) SwitchTo(ctx context.Context, name string) error {
	switch {
	case name == "":
		return errors.New("it needs the name of a host")
	case p.router != nil:
		return errors.New("the hosts are chosen by the router that was given to the option Router")
	}
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.leave()
	old := p.host.Load()
	if old.name == name && old.engine != nil {
		return nil
	}
	e, err := p.openHost(ctx, name)
	if err != nil {
		return err
	}
	conn, err := e.Acquire(ctx)
	if err != nil {
		p.mu.Lock()
		p.drain(newHost(name, e))
		p.mu.Unlock()
		return fmt.Errorf("host %s does not answer, so that all stays as it was: %w", name, err)
	}
	conn.Release(true)
	p.replace(newHost(name, e))
	return nil
}

// replace makes another host the current one, and leaves the old. The caller
// has the turn.
func (p *Pools) replace(next *Host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.host.Swap(next); old.engine != nil {
		p.drain(old)
	}
}

// drain closes a pool that was left once its sessions are over, or have taken
// too long. Nobody waits for it but Close. The caller holds mu.
func (p *Pools) drain(left *Host) {
	p.depart(left)
	left.users.close()
	p.drains.Go(func() {
		timer := time.NewTimer(drainTimeout)
		defer timer.Stop()
		select {
		case <-left.users.gone:
		case <-timer.C:
		}
		if err := left.engine.Close(); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.errs = append(p.errs, fmt.Errorf("dbscope: %s: closing the pool%s: %w", p.name, at(left.name), err))
		}
	})
}

// Close closes the pools. It blocks until connections in use are back, for 30
// seconds at most, unless some are lent.
func (p *Pools) Close() error {
	p.turn <- struct{}{}
	defer p.leave()
	p.mu.Lock()
	p.closed = true
	lent := p.lent > 0
	for name, left := range p.routed.Range {
		p.routed.Delete(name)
		p.drain(left.(*Host))
	}
	p.mu.Unlock()
	p.replace(newHost(p.host.Load().name, nil))
	var stopped error
	if p.stop != nil {
		stopped = p.stop()
		p.stop = nil
	}
	if lent {
		return stopped
	}
	return errs.Joined(p.drained(), stopped)
}

// drained waits until all pools that were left are closed.
func (p *Pools) drained() error {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		p.drains.Wait()
	}()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
		return fmt.Errorf("dbscope: %s: closing: after %v connections are still in use", p.name, drainTimeout)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := errs.Joined(p.errs...)
	p.errs = nil
	return all
}
