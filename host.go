package dbscope

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/hostname"
)

// drainTimeout is how long [DB.Close] waits for connections that are in use.
const drainTimeout = 30 * time.Second

// Host returns the host of new sessions: that of the last [DB.SwitchHost], or
// of the option [Host]; with [Hosts], the one that writes. It is empty where
// the connection string names the host, and where none is known.
func (db *DB[H]) Host() string {
	if r := db.core.hosts.router; r != nil {
		return r.Host()
	}
	return db.core.hosts.host.Load().name
}

// SwitchHost makes new sessions, also those of scopes that are under way, run on
// another host; siblings follow. It opens the host's pool and takes a
// connection from it; where that fails, the error says so and all stays as it
// was. So it does where the text is no host: a name or an address, with a port or
// without, several of them with commas between, or the path of a socket. Sessions that are open finish where they began, those that wait for a
// connection take one of the new host, and the old pool is closed in the
// background. It blocks while it connects, until
// ctx is done, and while another switch does; of several at once the last to
// come wins. It may be called by [BeforeSession].
func (db *DB[H]) SwitchHost(ctx context.Context, host string) error {
	if err := db.core.hosts.switchTo(ctx, host); err != nil {
		return fmt.Errorf("dbscope: %s: SwitchHost: %w", db.core.name, err)
	}
	return nil
}

// Close closes the pools, for siblings too. Statements after it are an error.
// It blocks until connections in use are back, for 30 seconds at most; not for
// the one of a [Sandbox], which a test gives back after its deferred calls.
func (db *DB[H]) Close() error { return db.core.hosts.close() }

// hosts owns a DB's engine; siblings share it.
type hosts struct {
	name   string
	open   func(ctx context.Context, host string) (driver.Engine, error)
	before func(context.Context) error // of BeforeSession, or nil
	router driver.Router               // of Hosts, or nil
	stop   func() error                // the router's use
	turn   chan struct{}               // held while opening, switching or closing
	host   atomic.Pointer[host]        // the current one, without a router
	drains sync.WaitGroup

	departures atomic.Uint64 // of hosts that were left; changed under mu
	takers     atomic.Int32  // sessions that take a connection

	mu     sync.Mutex
	routed map[string]*host // those that a router chose
	closed bool
	lent   int     // connections that sandboxes have
	errs   []error // of pools that were closed in the background
}

// host is one host and its pool.
type host struct {
	name   string
	engine driver.Engine // nil before the first use
	users  int           // sessions, guarded by the hosts' mu
	unused chan struct{} // closed once it was left and has no users; made when it is left

	waiting map[*waiting]struct{} // for a connection, guarded by the hosts' mu
}

func newHosts(name string, o *dbOptions, open func(context.Context, string) (driver.Engine, error)) *hosts {
	h := &hosts{name: name, open: open, before: o.beforeSession, router: o.router, turn: make(chan struct{}, 1)}
	h.host.Store(&host{name: o.host})
	if h.router != nil {
		h.routed = map[string]*host{}
		h.stop = h.router.Use(func(ctx context.Context, host string) (driver.Engine, error) {
			if err := checkHost(host); err != nil {
				return nil, err
			}
			return open(ctx, host)
		}, h.left)
	}
	return h
}

// beforeSession calls the function of [BeforeSession].
func (h *hosts) beforeSession(ctx context.Context) error {
	if h.before == nil || ctx.Value(beforeKey{h}) != nil {
		return nil
	}
	if err := h.before(context.WithValue(ctx, beforeKey{h}, true)); err != nil {
		return fmt.Errorf("before the session: %w", err)
	}
	return nil
}

// use returns the current host. It stays open until as many calls of unuse.
func (h *hosts) use(ctx context.Context) (*host, error) {
	for {
		if _, err := h.current(ctx); err != nil {
			return nil, err
		}
		h.mu.Lock()
		now := h.host.Load()
		if now.engine != nil { // else it was closed meanwhile
			now.users++
			h.mu.Unlock()
			return now, nil
		}
		h.mu.Unlock()
	}
}

// useRouted is use for a host that the router has chosen, after so many
// departures.
func (h *hosts) useRouted(ctx context.Context, name string, since uint64) (*host, error) {
	if now := h.known(name); now != nil {
		return now, nil
	}
	if err := checkHost(name); err != nil {
		return nil, err
	}
	if err := h.take(ctx); err != nil {
		return nil, err
	}
	defer h.leave()
	if now := h.known(name); now != nil {
		return now, nil
	}
	e, err := h.openHost(ctx, name)
	switch {
	case err == nil:
	case ctx.Err() != nil || h.isClosed():
		return nil, err
	default:
		return nil, unreachable{err}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := &host{name: name, engine: e}
	if h.departures.Load() != since { // it may be a member no more
		h.drain(now)
		return nil, errLeft
	}
	now.users++
	h.routed[name] = now
	return now, nil
}

// known counts a user of the host, where its pool is open.
func (h *hosts) known(name string) *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.routed[name]
	if now != nil {
		now.users++
	}
	return now
}

// left is told by the router, see [driver.Router].
func (h *hosts) left(name string, gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch left := h.routed[name]; {
	case left == nil: // but a session may be about to open it
		h.departures.Add(1)
	case gone:
		delete(h.routed, name)
		h.drain(left)
	default:
		h.depart(left)
	}
}

func (h *hosts) unuse(used *host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if used.users--; used.users == 0 && used.unused != nil {
		close(used.unused)
	}
}

// beforeKey marks the context of a BeforeSession function, whose own sessions
// do not call it again.
type beforeKey struct{ *hosts }

// current returns the engine and opens it on first use, one caller at a time.
func (h *hosts) current(ctx context.Context) (driver.Engine, error) {
	if h.router != nil {
		return h.writing(ctx)
	}
	if e := h.host.Load().engine; e != nil {
		return e, nil
	}
	if err := h.take(ctx); err != nil {
		return nil, err
	}
	defer h.leave()
	now := h.host.Load()
	if now.engine != nil {
		return now.engine, nil
	}
	e, err := h.openHost(ctx, now.name)
	if err != nil {
		return nil, err
	}
	h.host.Store(&host{name: now.name, engine: e})
	return e, nil
}

// writing returns the engine of the host that the router has for writing.
func (h *hosts) writing(ctx context.Context) (driver.Engine, error) {
	for {
		since := h.departures.Load()
		r, err := h.router.Route(ctx, driver.Need{})
		if err != nil {
			return nil, err
		}
		used, err := h.useRouted(ctx, r.Host, since)
		switch {
		case err == nil:
			h.unuse(used)
			return used.engine, nil
		case !errors.Is(err, errLeft):
			return nil, err
		}
	}
}

// take waits for the turn.
func (h *hosts) take(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the pool to open: %w", interrupted(ctx))
	}
}

func (h *hosts) leave() { <-h.turn }

// openHost opens a pool. The caller has the turn.
func (h *hosts) openHost(ctx context.Context, name string) (driver.Engine, error) {
	if h.isClosed() {
		return nil, errors.New("the DB is closed")
	}
	if err := checkHost(name); err != nil {
		return nil, err
	}
	e, err := h.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("opening the pool%s: %w", at(name), err)
	}
	return e, nil
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

func (h *hosts) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// lend counts the connections that sandboxes have.
func (h *hosts) lend(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lent += n
}

func at(host string) string {
	if host == "" {
		return ""
	}
	return " of host " + host
}

func (h *hosts) switchTo(ctx context.Context, name string) error {
	switch {
	case name == "":
		return errors.New("it needs the name of a host")
	case h.router != nil:
		return errors.New("the hosts are chosen by the router that was given to the option Hosts")
	}
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.leave()
	old := h.host.Load()
	if old.name == name && old.engine != nil {
		return nil
	}
	e, err := h.openHost(ctx, name)
	if err != nil {
		return err
	}
	conn, err := e.Acquire(ctx)
	if err != nil {
		h.mu.Lock()
		h.drain(&host{name: name, engine: e})
		h.mu.Unlock()
		return fmt.Errorf("host %s does not answer, so that all stays as it was: %w", name, err)
	}
	conn.Release(true)
	h.replace(&host{name: name, engine: e})
	return nil
}

// replace makes another host the current one, and leaves the old. The caller
// has the turn.
func (h *hosts) replace(next *host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.host.Swap(next); old.engine != nil {
		h.drain(old)
	}
}

// drain closes a pool that was left once its sessions are over, or have taken
// too long. Nobody waits for it but Close. The caller holds mu.
func (h *hosts) drain(left *host) {
	h.depart(left)
	left.unused = make(chan struct{})
	if left.users == 0 {
		close(left.unused)
	}
	h.drains.Go(func() {
		timer := time.NewTimer(drainTimeout)
		defer timer.Stop()
		select {
		case <-left.unused:
		case <-timer.C:
		}
		if err := left.engine.Close(); err != nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.errs = append(h.errs, fmt.Errorf("dbscope: %s: closing the pool%s: %w", h.name, at(left.name), err))
		}
	})
}

func (h *hosts) close() error {
	h.turn <- struct{}{}
	defer h.leave()
	h.mu.Lock()
	h.closed = true
	lent := h.lent > 0
	for name, left := range h.routed {
		delete(h.routed, name)
		h.drain(left)
	}
	h.mu.Unlock()
	h.replace(&host{name: h.host.Load().name})
	var stopped error
	if h.stop != nil {
		stopped = h.stop()
		h.stop = nil
	}
	if lent {
		return stopped
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		h.drains.Wait()
	}()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
		return fmt.Errorf("dbscope: %s: closing: after %v connections are still in use", h.name, drainTimeout)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := joined(h.errs...)
	h.errs = nil
	return joined(errs, stopped)
}
