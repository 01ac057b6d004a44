package dbscope

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dbscope/dbscope/driver"
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
func (s *session) open(ctx context.Context) (conn driver.Conn, err error) {
	err = errors.New("opening the session panicked")
	defer func() {
		if err != nil { // also where a function of the user's panics
			err = s.leave(err)
		}
	}()
	conn, err = s.connect(ctx)
	s.mu.Lock()
	s.conn, s.begun = conn, err == nil
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
	return inner(conn), err
}

func (s *session) connect(ctx context.Context) (driver.Conn, error) {
	hosts := s.db.hosts
	if err := hosts.beforeSession(ctx); err != nil {
		return nil, err
	}
	if hosts.router != nil {
		return s.connectRouted(ctx, hosts)
	}
	for {
		since := hosts.departures.Load()
		used, err := hosts.use(ctx)
		if err != nil {
			return nil, err
		}
		s.host = used
		conn, err := s.connectTo(ctx, driver.Route{}, since)
		if err == nil {
			return conn, nil
		}
		s.leaveHost()
		if !errors.Is(err, errLeft) {
			return nil, err
		}
	}
}

// leaveHost tells that the session needs its host no more.
func (s *session) leaveHost() {
	if s.host != nil {
		s.db.hosts.unuse(s.host)
		s.host = nil
	}
}

// connectTo connects to the session's host, which was chosen after so many
// departures, and begins.
func (s *session) connectTo(ctx context.Context, route driver.Route, since uint64) (driver.Conn, error) {
	engine := s.host.engine
	s.mu.Lock()
	conn := s.conn // of the slot's previous transaction
	s.conn = nil
	s.mu.Unlock()
	if conn != nil && s.engine != engine {
		s.release(conn, true) // to a host that was left
		conn = nil
	}
	for attempt := 1; ; attempt++ {
		if conn == nil {
			var err error
			if conn, err = s.acquire(ctx, engine, since); err != nil {
				return nil, err
			}
		}
		f, sandboxed := conn.(*frame)
		switch {
		case sandboxed:
			f.session = s
		case s.slot == nil:
			return conn, nil
		}
		err := s.begin(ctx, conn, route)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, errBehind):
			s.release(conn, true)
			return nil, err
		}
		fate := s.check(ctx, conn, err)
		s.release(conn, fate != driver.Lost && ctx.Err() == nil)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("beginning a transaction: %w", interrupted(ctx))
		}
		if fate != driver.Lost {
			return nil, fmt.Errorf("beginning a transaction: %w", err)
		}
		if attempt == beginAttempts {
			return nil, unreachable{fmt.Errorf("beginning a transaction: %w", err)}
		}
		conn = nil
	}
}

func (s *session) acquire(ctx context.Context, engine driver.Engine, since uint64) (driver.Conn, error) {
	if s.sandbox != nil {
		return s.sandbox.acquire(ctx, s, engine)
	}
	s.db.hosts.takers.Add(1) // first, so that of two who wait for each other one sees it
	defer s.db.hosts.takers.Add(-1)
	wait, why := ctx, s.mayWaitForItself(ctx)
	if why != "" {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, holdingTimeout)
		defer cancel()
	}
	s.engine = engine
	w := s.waiting(wait, since)
	conn, err := engine.Acquire(w)
	ended := w.stop()
	left := ended == errLeft //nolint:errorlint // the very one
	switch {
	case err == nil && !left:
		if s.slot != nil {
			s.slot.pool.Store(s.host)
			s.slot.holding.Add(1)
			s.slot.scope.took(1)
		}
		return conn, nil
	case err == nil:
		conn.Release(true)
		return nil, errLeft
	case ctx.Err() != nil:
		return nil, fmt.Errorf("taking a connection: %w", interrupted(ctx))
	case left:
		return nil, errLeft
	case ended == errStuck: //nolint:errorlint // as above
		return nil, fmt.Errorf("%w, and so does this unit, or one that waits for it: make the pool larger, or release or end "+
			"the outer unit first, and use the databases in the same order everywhere", ErrPoolDeadlock)
	case why != "" && wait.Err() != nil:
		return nil, fmt.Errorf("no connection came free within %v, and this unit, one that waits for it, or another function "+
			"of its Group holds %s: %w", holdingTimeout, why, wait.Err())
	default:
		return nil, unreachable{fmt.Errorf("taking a connection: %w", err)}
	}
}

// mayWaitForItself tells which connection is held, and what to do, where taking
// another one may wait until that is given back.
func (s *session) mayWaitForItself(ctx context.Context) string {
	scope := s.scopeOf(ctx)
	switch {
	case scope.together() || scope.holds(s.slot, func(h *hosts) bool { return h == s.db.hosts }):
		return "one of the same pool: make the pool larger, or release or end the outer unit first"
	case scope.holds(s.slot, func(h *hosts) bool { return h.takers.Load() > 0 }):
		return "one of another pool that somebody waits for: use the databases in the same order everywhere, " +
			"or make the pools larger"
	}
	return ""
}
