// Package link gets a session its connection, commits on it, and gives it back.
package link

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
	"github.com/dbscope/dbscope/internal/watch"
	"github.com/dbscope/dbscope/internal/writes"
	"github.com/dbscope/dbscope/observe"
)

// Connections are taken and BEGIN is sent again on a connection that turned
// out to be dead, as after a restart of the server, at most this often.
const beginAttempts = 10

func init() { unit.AcquireFrame = unit.NameOf((*Link).Acquire) }

// Source is where a session's connection comes from, and goes back to: a unit of
// work, or nothing for a statement outside units.
type Source interface {
	// Context is the unit's, nil outside units.
	Context() context.Context
	// Owns reports whether a context is one of the unit's.
	Owns(ctx context.Context) bool
	// Sandbox gives out the connections in a test, else it is nil.
	Sandbox(ctx context.Context) unit.Sandbox
	// Seen is what a sandbox sees of the unit, nil outside units.
	Seen() *unit.Unit
	// Waits is the unit that waits for a connection, or nil.
	Waits() pools.Unit
	// MayWaitForItself tells which connection is held while another one is taken,
	// and what to do, where that may wait until the first is given back.
	MayWaitForItself() pools.Limit
	// Took and Gave count connections. Gave comes first, so that who gets the
	// connection next holds it then.
	Took(ctx context.Context, from *pools.Host)
	Gave()
	// Watch is for observers, nil where there are none.
	Watch() *watch.DB
}

// Link is a session's connection to its database. Only the session's holder uses
// it.
type Link struct {
	DB      *Database
	Source  Source
	Owner   unit.Owner // the session
	TX      driver.TxOptions
	Timeout time.Duration // of what ends a transaction, or asks about it

	Conn    driver.Conn        // nil where there is none yet
	Shared  unit.Conn          // the same, where it is one of a sandbox's
	Adopted driver.AdoptedConn // the same, where its transaction is other code's
	Lender  func(reuse bool)   // gets conn back, where it is that of a session which keeps it; else nil
	Engine  driver.Engine      // that conn is of
	Host    *pools.Host        // whose engine it is, while the session is open
	wait    pools.Wait         // for the first connection

	Watch    *watch.Session   // tells observers, nil where there are none
	settings []driver.Setting // of the transaction, see dbscope.Settings

	witness []string // of the transaction, once it is about to be committed
}

// Connect takes a connection of a host that the session may use, unless the
// link has one of it already, and begins.
func (l *Link) Connect(ctx context.Context) (err error) {
	if err := l.askSettings(ctx); err != nil {
		return err
	}
	if l.Lender != nil {
		_, err = l.beginOn(ctx, driver.Route{})
		return err
	}
	if err := l.DB.beforeOpening(ctx); err != nil {
		return err
	}
	l.Host, err = l.DB.Pools.Connect(ctx, l.need(ctx), l)
	return err
}

// need is what a router has to know of the session.
func (l *Link) need(ctx context.Context) driver.RouteRequest {
	r := l.DB.Pools.Router()
	if r == nil {
		return driver.RouteRequest{}
	}
	// A hot standby has no serializable transactions.
	replica := l.TX.ReadOnly && l.TX.Isolation < sql.LevelSerializable
	need := driver.RouteRequest{ReadOnly: replica && l.Source.Context() != nil && l.Source.Sandbox(ctx) == nil}
	if w := writes.Of(ctx); w != nil && need.ReadOnly {
		need.After, need.Token = w.Need(r)
	}
	return need
}

// ConnectTo implements [pools.Connector].
func (l *Link) ConnectTo(ctx context.Context, at pools.Place) error {
	l.Host = at.Host
	l.Watch.At(at.Host.Name(), at.Route.Replica)
	if l.Conn != nil && l.Engine != at.Host.Engine() {
		l.Release(true) // to a host that was left
	}
	for attempt := 1; ; attempt++ {
		if l.Conn == nil {
			if err := l.Acquire(ctx, at); err != nil {
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
func (l *Link) beginOn(ctx context.Context, route driver.Route) (again bool, err error) {
	if !l.Transactional() {
		return false, nil
	}
	ctx = l.Watch.Begin(ctx, l.TX.ReadOnly)
	if err = l.canSet(); err == nil {
		err = l.canSettle(ctx)
	}
	if err == nil {
		err = l.beginAndSet(ctx, route)
	}
	if err == nil {
		return false, nil
	}
	defer func() { l.Watch.Over(driver.RolledBack, err) }()
	switch {
	case errors.Is(err, pools.ErrBehind):
		l.Release(true)
		return false, err
	}
	gone := false
	if l.Conn != nil {
		gone = l.Check(ctx, err) == driver.Lost
		l.Release(!gone && ctx.Err() == nil)
	}
	if ctx.Err() != nil {
		gone, err = false, errs.Interrupted(ctx)
	}
	return gone, fmt.Errorf("beginning a transaction: %w", err)
}

// Transactional reports whether there is a transaction: a statement outside units
// has one only where it shares its connection with others.
func (l *Link) Transactional() bool { return l.Source.Context() != nil || l.Shared != nil }

func (l *Link) beginAndSet(ctx context.Context, route driver.Route) error {
	ctx, op := l.Watch.Step(ctx, observe.Begin, "")
	err := l.begin(ctx, route)
	if err == nil {
		err = l.set(ctx)
	}
	op.End(observe.None, err)
	return err
}

// begin begins on a host that is ready. Where that costs no round trip it asks in
// the transaction, since a pooler may lead the next one to a server that has been
// started again.
func (l *Link) begin(ctx context.Context, route driver.Route) error {
	if _, inside := l.Conn.(driver.CommitQuerier); !inside {
		if err := l.ready(ctx, route); err != nil {
			return err
		}
		return l.Conn.Begin(ctx, l.TX)
	}
	if err := l.Conn.Begin(ctx, l.TX); err != nil {
		return err
	}
	err := l.ready(ctx, route)
	if err == nil {
		return nil
	}
	bounded := ending.New(ctx, l.Timeout)
	defer bounded.Cancel()
	if undo := l.Conn.Rollback(bounded); undo != nil && errors.Is(err, pools.ErrBehind) {
		return undo // and the connection is not used again
	}
	return err
}

// ready asks whether the host has come as far as the route says.
func (l *Link) ready(ctx context.Context, route driver.Route) error {
	if route.After == (driver.Position{}) {
		return nil
	}
	ready, err := l.DB.Pools.Router().Ready(ctx, l.Conn, route)
	if err == nil && !ready {
		return pools.ErrBehind
	}
	return err
}

// Acquire takes a connection of the place.
func (l *Link) Acquire(ctx context.Context, at pools.Place) error {
	if box := l.Source.Sandbox(ctx); box != nil {
		return l.acquireShared(ctx, at, box)
	}
	w := &l.wait
	if w.Used() { // others may hold it still
		w = new(pools.Wait)
	}
	waits, op := l.Watch.Step(ctx, observe.Wait, "")
	conn, err := at.Acquire(waits, w, l.Source.Waits(), l.Source.MayWaitForItself)
	op.End(observe.None, err)
	if err == pools.ErrDeadlock { //nolint:errorlint // the very one
		return fmt.Errorf("%w, and so does this unit, or one that waits for it: make the pool larger, or release or end "+
			"the outer unit first, and use the databases in the same order everywhere", pools.ErrDeadlock)
	}
	if err != nil {
		return err
	}
	l.Conn, l.Engine = conn, at.Host.Engine()
	l.Source.Took(ctx, at.Host)
	return nil
}

// acquireShared takes a connection that the session shares with others.
func (l *Link) acquireShared(ctx context.Context, at pools.Place, box unit.Sandbox) error {
	shared, err := box.Acquire(ctx, unit.Acquisition{
		Pools: l.DB.Pools, Engine: at.Host.Engine(), Unit: l.Source.Seen(), Owner: l.Owner,
	})
	if err != nil {
		return err
	}
	l.Conn, l.Shared, l.Engine = shared, shared, at.Host.Engine()
	return nil
}

// Release gives the connection back, if there is one.
func (l *Link) Release(reuse bool) {
	conn, shared := l.Conn, l.Shared
	l.Conn, l.Shared = nil, nil
	switch {
	case conn == nil || l.Adopted != nil:
	case shared != nil:
		shared.Release(reuse)
	case l.Lender != nil:
		l.Lender(reuse)
	default:
		l.Source.Gave()
		l.DB.GiveBack(conn, reuse)
	}
}

// LeaveHost tells that the session needs its host no more.
func (l *Link) LeaveHost() {
	if l.Host != nil {
		l.Host.Leave()
		l.Host = nil
	}
}

// Check asks the connection what an error did to the transaction.
func (l *Link) Check(ctx context.Context, err error) driver.Fate {
	if errors.Is(err, driver.ErrNotSent) {
		return driver.Intact
	}
	bounded := ending.New(ctx, l.Timeout)
	defer bounded.Cancel()
	return l.Conn.Check(bounded, err)
}

// Writes returns where the commit is to be noted, or nil.
func (l *Link) Writes() *writes.Writes {
	ctx := l.Source.Context()
	if l.DB.Pools.Router() == nil || ctx == nil || l.Shared != nil || l.TX.ReadOnly {
		return nil
	}
	return writes.Of(ctx)
}

// Blame tells the router of an error that may be its host's.
func (l *Link) Blame(ctx context.Context, fate driver.Fate, err error) {
	r := l.DB.Pools.Router()
	if r == nil || l.Host == nil || ctx.Err() != nil {
		return
	}
	if fate == driver.Lost || !l.TX.ReadOnly && l.DB.Classify.WriteRefused(err) {
		r.Failed(l.Host.Name(), err)
	}
}

// Explain adds to the error of a refused write what to do about it.
func (l *Link) Explain(err error) error {
	switch {
	case !l.DB.Classify.WriteRefused(err):
		return err
	case l.TX.ReadOnly:
		return l.DB.Errorf("this unit was begun with the option ReadOnly and cannot write, begin it without: %w", err)
	case l.DB.Pools.Router() != nil && l.Host != nil:
		return l.DB.Errorf("the host %s has become a replica, run the unit again: %w", l.Host.Name(), err)
	}
	return err
}
