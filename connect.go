package dbscope

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
)

// Connections are taken and BEGIN is sent again on a connection that turned
// out to be dead, as after a restart of the server, at most this often.
const beginAttempts = 10

// A unit that waits for a connection while it, or the caller that waits for
// it, holds one of the same pool, or one that others wait for, could wait for
// itself: it waits at most this long.
const holdingTimeout = 5 * time.Second

// open connects and begins. The session is running and stays so, or is left
// after an error.
func (s *session) open(ctx context.Context) (err error) {
	err = errors.New("opening the session panicked")
	defer func() {
		if err != nil { // also where a function of the user's panics
			err = s.leave(err)
		}
	}()
	err = s.connect(ctx)
	s.mu.Lock()
	s.begun = err == nil
	abandoned := s.abandoned
	s.mu.Unlock()
	switch {
	case err != nil:
		s.noteError(err)
		s.doom(err) // what the statement was to do is missing
		err = fmt.Errorf("dbscope: %s: %w", s.db.name, err)
	case abandoned:
		err = s.abandonedError()
	}
	return err
}

// connect connects the session to a host that it may use.
func (s *session) connect(ctx context.Context) (err error) {
	if err := s.db.beforeOpening(ctx); err != nil {
		return err
	}
	s.host, err = s.db.pools.Connect(ctx, s.need(ctx), s)
	return err
}

// beforeKey marks the context of a BeforeSession function, whose own sessions
// do not call it again.
type beforeKey struct{ *pools.Pools }

// beforeOpening calls the function of [BeforeSession].
func (d *database) beforeOpening(ctx context.Context) error {
	if d.beforeSession == nil || ctx.Value(beforeKey{d.pools}) != nil {
		return nil
	}
	if err := d.beforeSession(context.WithValue(ctx, beforeKey{d.pools}, true)); err != nil {
		return fmt.Errorf("before the session: %w", err)
	}
	return nil
}

// leaveHost tells that the session needs its host no more.
func (s *session) leaveHost() {
	if s.host != nil {
		s.host.Leave()
		s.host = nil
	}
}

// ConnectTo implements [pools.Connector]: it takes a connection, or the one of the
// slot's previous transaction, and begins.
func (s *session) ConnectTo(ctx context.Context, at pools.Place) error {
	s.host = at.Host
	s.mu.Lock()
	conn := s.conn
	s.conn = nil
	s.mu.Unlock()
	if conn != nil && s.engine != at.Host.Engine() {
		s.release(conn, true) // to a host that was left
		conn = nil
	}
	for attempt := 1; ; attempt++ {
		if conn == nil {
			var err error
			if conn, err = s.acquire(ctx, at); err != nil {
				return err
			}
		}
		again, err := s.beginOn(ctx, conn, at.Route)
		switch {
		case err == nil:
			s.mu.Lock()
			s.conn = conn
			s.mu.Unlock()
			return nil
		case !again:
			return err
		case attempt == beginAttempts:
			return pools.Unreachable{Err: err}
		}
		conn = nil
	}
}

// beginOn begins, where there is something to begin, and else gives the connection
// back: again says that it was dead, and another one may do.
func (s *session) beginOn(ctx context.Context, conn driver.Conn, route driver.Route) (again bool, err error) {
	if !s.hasTransaction() {
		return false, nil
	}
	err = s.begin(ctx, conn, route)
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, pools.ErrBehind):
		s.release(conn, true)
		return false, err
	}
	fate := s.check(ctx, conn, err)
	s.release(conn, fate != driver.Lost && ctx.Err() == nil)
	if ctx.Err() != nil {
		err = errs.Interrupted(ctx)
	}
	return fate == driver.Lost && ctx.Err() == nil, fmt.Errorf("beginning a transaction: %w", err)
}

func (s *session) acquire(ctx context.Context, at pools.Place) (driver.Conn, error) {
	if box := s.sandboxOf(ctx); box != nil {
		return s.acquireShared(ctx, at, box)
	}
	s.engine = at.Host.Engine()
	w := &s.wait
	if w.Used() { // others may hold it still
		w = new(pools.Wait)
	}
	conn, err := at.Acquire(ctx, w, asWaiting(s.scopeOf(ctx)), func() pools.Limit { return s.mayWaitForItself(ctx) })
	if err == pools.ErrDeadlock { //nolint:errorlint // the very one
		err = fmt.Errorf("%w, and so does this unit, or one that waits for it: make the pool larger, or release or end "+
			"the outer unit first, and use the databases in the same order everywhere", ErrPoolDeadlock)
	}
	if err == nil && s.slot != nil {
		s.slot.pool.Store(at.Host)
		s.slot.holding.Add(1)
	}
	return conn, err
}

// sandboxOf returns what gives out the connections in a test, or nil.
func (s *session) sandboxOf(ctx context.Context) unit.Sandbox {
	if s.slot != nil {
		return s.slot.scope.sandbox
	}
	return unit.SandboxOf(ctx)
}

// acquireShared takes a connection that the session shares with others, and that
// is not kept for its successor.
func (s *session) acquireShared(ctx context.Context, at pools.Place, box unit.Sandbox) (_ driver.Conn, err error) {
	a := unit.Acquisition{Pools: s.db.pools, Engine: at.Host.Engine(), Abandon: s.abandon}
	if s.slot != nil {
		a.Unit = &s.slot.scope.unit
	}
	shared, err := box.Acquire(ctx, a)
	if err != nil {
		return nil, err
	}
	s.shared = shared
	return shared, nil
}

// hasTransaction reports whether the session is one, and not a statement outside
// units, which is one only where others share its connection.
func (s *session) hasTransaction() bool { return s.slot != nil || s.shared != nil }

// scopeOf returns the scope that waits when the session does, or nil.
func (s *session) scopeOf(ctx context.Context) *Scope {
	if s.slot != nil {
		return s.slot.scope
	}
	return scopeOf(ctx)
}

// mayWaitForItself tells which connection is held, and what to do, where taking
// another one may wait until that is given back.
func (s *session) mayWaitForItself(ctx context.Context) pools.Limit {
	const held = "this unit, one that waits for it, or another function of its Group holds "
	scope := s.scopeOf(ctx)
	switch {
	case scope.together() || scope.holds(s.slot, func(p *pools.Pools) bool { return p == s.db.pools }):
		return pools.Limit{Time: holdingTimeout, Why: held + "one of the same pool: make the pool larger, or release or end the outer unit first"}
	case scope.holds(s.slot, (*pools.Pools).Awaited):
		return pools.Limit{Time: holdingTimeout, Why: held + "one of another pool that somebody waits for: " +
			"use the databases in the same order everywhere, or make the pools larger"}
	}
	return pools.Limit{}
}
