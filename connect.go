package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/internal/writes"
)

// Connections are taken and BEGIN is sent again on a connection that turned
// out to be dead, as after a restart of the server, at most this often.
const beginAttempts = 10

// source is where a session's connection comes from, and goes back to: a unit of
// work, or nothing for a statement outside units.
type source interface {
	// context is the unit's, nil outside units.
	context() context.Context
	// sandbox gives out the connections in a test, else it is nil.
	sandbox(ctx context.Context) unit.Sandbox
	// seen is what a sandbox sees of the unit, nil outside units.
	seen() *unit.Unit
	// waits is the unit that waits for a connection, or nil.
	waits() pools.Unit
	// mayWaitForItself tells which connection is held while another one is taken,
	// and what to do, where that may wait until the first is given back.
	mayWaitForItself() pools.Limit
	// took and gave count connections. gave comes first, so that who gets the
	// connection next holds it then.
	took(from *pools.Host)
	gave()
}

// link is a session's connection to its database. Only the session's holder uses
// it.
type link struct {
	db      *database
	source  source
	owner   unit.Owner // the session
	tx      driver.TxOptions
	timeout time.Duration // of what ends a transaction, or asks about it

	conn   driver.Conn   // nil where there is none yet
	shared unit.Conn     // the same, where it is one of a sandbox's
	engine driver.Engine // that conn is of
	host   *pools.Host   // whose engine it is, while the session is open
	wait   pools.Wait    // for the first connection
}

// connect takes a connection of a host that the session may use, unless the
// link has one of it already, and begins.
func (l *link) connect(ctx context.Context) (err error) {
	if err := l.db.beforeOpening(ctx); err != nil {
		return err
	}
	l.host, err = l.db.pools.Connect(ctx, l.need(ctx), l)
	return err
}

// need is what a router has to know of the session.
func (l *link) need(ctx context.Context) driver.Need {
	r := l.db.pools.Router()
	if r == nil {
		return driver.Need{}
	}
	// A hot standby has no serializable transactions.
	replica := l.tx.ReadOnly && l.tx.Isolation < sql.LevelSerializable
	need := driver.Need{ReadOnly: replica && l.source.context() != nil && l.source.sandbox(ctx) == nil}
	if w := writes.Of(ctx); w != nil && need.ReadOnly {
		need.After, need.Token = w.Need(r)
	}
	return need
}

// ConnectTo implements [pools.Connector].
func (l *link) ConnectTo(ctx context.Context, at pools.Place) error {
	l.host = at.Host
	if l.conn != nil && l.engine != at.Host.Engine() {
		l.release(true) // to a host that was left
	}
	for attempt := 1; ; attempt++ {
		if l.conn == nil {
			if err := l.acquire(ctx, at); err != nil {
				return err
			}
		}
		again, err := l.beginOn(ctx, at.Route)
		switch {
		case err == nil || !again:
			return err
		case attempt == beginAttempts:
			return pools.Unreachable{Err: err}
		}
	}
}

// beginOn begins, where there is something to begin, and else gives the connection
// back: again says that it was dead, and another one may do.
func (l *link) beginOn(ctx context.Context, route driver.Route) (again bool, err error) {
	if !l.transactional() {
		return false, nil
	}
	err = l.begin(ctx, route)
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, pools.ErrBehind):
		l.release(true)
		return false, err
	}
	gone := l.check(ctx, err) == driver.Lost
	l.release(!gone && ctx.Err() == nil)
	if ctx.Err() != nil {
		gone, err = false, errs.Interrupted(ctx)
	}
	return gone, fmt.Errorf("beginning a transaction: %w", err)
}

// transactional reports whether there is a transaction: a statement outside units
// has one only where it shares its connection with others.
func (l *link) transactional() bool { return l.source.context() != nil || l.shared != nil }

// begin begins on a host that is ready. Where that costs no round trip it asks in
// the transaction, since a pooler may lead the next one to a server that has been
// started again.
func (l *link) begin(ctx context.Context, route driver.Route) error {
	if _, inside := l.conn.(driver.Positioner); !inside {
		if err := l.ready(ctx, route); err != nil {
			return err
		}
		return l.conn.Begin(ctx, l.tx)
	}
	if err := l.conn.Begin(ctx, l.tx); err != nil {
		return err
	}
	err := l.ready(ctx, route)
	if err == nil {
		return nil
	}
	bounded := ending.New(ctx, l.timeout)
	defer bounded.Cancel()
	if undo := l.conn.Rollback(bounded); undo != nil && errors.Is(err, pools.ErrBehind) {
		return undo // and the connection is not used again
	}
	return err
}

// ready asks whether the host has come as far as the route says.
func (l *link) ready(ctx context.Context, route driver.Route) error {
	if route.After == (driver.Position{}) {
		return nil
	}
	ready, err := l.db.pools.Router().Ready(ctx, l.conn, route)
	if err == nil && !ready {
		return pools.ErrBehind
	}
	return err
}

func (l *link) acquire(ctx context.Context, at pools.Place) error {
	if box := l.source.sandbox(ctx); box != nil {
		return l.acquireShared(ctx, at, box)
	}
	w := &l.wait
	if w.Used() { // others may hold it still
		w = new(pools.Wait)
	}
	conn, err := at.Acquire(ctx, w, l.source.waits(), l.source.mayWaitForItself)
	if err == pools.ErrDeadlock { //nolint:errorlint // the very one
		return fmt.Errorf("%w, and so does this unit, or one that waits for it: make the pool larger, or release or end "+
			"the outer unit first, and use the databases in the same order everywhere", ErrPoolDeadlock)
	}
	if err != nil {
		return err
	}
	l.conn, l.engine = conn, at.Host.Engine()
	l.source.took(at.Host)
	return nil
}

// acquireShared takes a connection that the session shares with others.
func (l *link) acquireShared(ctx context.Context, at pools.Place, box unit.Sandbox) error {
	shared, err := box.Acquire(ctx, unit.Acquisition{
		Pools: l.db.pools, Engine: at.Host.Engine(), Unit: l.source.seen(), Owner: l.owner,
	})
	if err != nil {
		return err
	}
	l.conn, l.shared, l.engine = shared, shared, at.Host.Engine()
	return nil
}

// release gives the connection back, if there is one.
func (l *link) release(reuse bool) {
	conn := l.conn
	l.conn = nil
	switch {
	case conn == nil:
		return
	case l.shared == nil:
		l.source.gave()
	}
	l.shared = nil
	conn.Release(reuse)
}

// leaveHost tells that the session needs its host no more.
func (l *link) leaveHost() {
	if l.host != nil {
		l.host.Leave()
		l.host = nil
	}
}

// check asks the connection what an error did to the transaction.
func (l *link) check(ctx context.Context, err error) driver.Fate {
	if errors.Is(err, driver.ErrNotSent) {
		return driver.Intact
	}
	bounded := ending.New(ctx, l.timeout)
	defer bounded.Cancel()
	return l.conn.Check(bounded, err)
}

// endedByStatement reports whether a statement has committed the transaction.
func (l *link) endedByStatement() bool {
	e, can := l.conn.(driver.Ender)
	return can && e.Ended() != nil
}

// writes returns where the commit is to be noted, or nil.
func (l *link) writes() *writes.Writes {
	ctx := l.source.context()
	if l.db.pools.Router() == nil || ctx == nil || l.shared != nil || l.tx.ReadOnly {
		return nil
	}
	return writes.Of(ctx)
}

// blame tells the router of an error that may be its host's.
func (l *link) blame(ctx context.Context, fate driver.Fate, err error) {
	r := l.db.pools.Router()
	if r == nil || l.host == nil || ctx.Err() != nil {
		return
	}
	if fate == driver.Lost || !l.tx.ReadOnly && l.db.classify.WriteRefused(err) {
		r.Failed(l.host.Name(), err)
	}
}

// explain adds to the error of a refused write what to do about it.
func (l *link) explain(err error) error {
	switch {
	case !l.db.classify.WriteRefused(err):
		return err
	case l.tx.ReadOnly:
		return l.db.errorf("this unit was begun with the option ReadOnly and cannot write, begin it without: %w", err)
	case l.db.pools.Router() != nil:
		return l.db.errorf("the host %s has become a replica, run the unit again: %w", l.host.Name(), err)
	}
	return err
}
