package pools

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// ErrBehind means that a replica has not come as far as is needed.
var ErrBehind = errors.New("the replica is behind")

// errLeft means that new sessions go to another host by now.
var errLeft = errors.New("the host was left")

// Unreachable is the error of a host that could not be connected to.
type Unreachable struct{ Err error }

func (e Unreachable) Error() string { return e.Err.Error() }

// Unwrap implements the interface of [errors.Unwrap].
func (e Unreachable) Unwrap() error { return e.Err }

// Place is where a session connects to: a host, and why.
type Place struct {
	Host  *Host
	Route driver.Route // zero without a router
	pools *Pools
	since uint64 // the departures before the host was chosen
}

// Connector connects to a host that was chosen for it, with [Place.Acquire].
type Connector interface {
	ConnectTo(ctx context.Context, at Place) error
}

// Connect chooses a host and calls c, until c can connect or there is nothing
// else to try. It returns the host, which stays open until its Leave. A router is
// told what is needed; ErrBehind and [Unreachable] send it on to the next host.
func (p *Pools) Connect(ctx context.Context, need driver.RouteRequest, c Connector) (*Host, error) {
	if p.router != nil {
		return p.connectRouted(ctx, need, c)
	}
	for {
		since := p.departures.Load()
		used, err := p.use(ctx)
		if err != nil {
			return nil, err
		}
		err = c.ConnectTo(ctx, Place{Host: used, pools: p, since: since})
		if err == nil {
			return used, nil
		}
		used.Leave()
		if !errors.Is(err, errLeft) {
			return nil, err
		}
	}
}

func (p *Pools) connectRouted(ctx context.Context, need driver.RouteRequest, c Connector) (*Host, error) {
	var failed error
	for {
		since := p.departures.Load()
		route, err := p.router.Route(ctx, need)
		if err != nil {
			return nil, errs.Joined(err, failed)
		}
		used, err := p.useRouted(ctx, route.Host, since)
		if err == nil {
			if err = c.ConnectTo(ctx, Place{Host: used, Route: route, pools: p, since: since}); err == nil {
				return used, nil
			}
			used.Leave()
		}
		switch {
		case errors.Is(err, errLeft):
		case errors.Is(err, ErrBehind):
			need.Behind = true
		case errors.As(err, new(Unreachable)):
			p.router.Failed(route.Host, err)
			need.Failures, failed = need.Failures+1, err
		default:
			return nil, err
		}
	}
}

// use returns the current host. It stays open until its user leaves.
func (p *Pools) use(ctx context.Context) (*Host, error) {
	for {
		if _, err := p.Engine(ctx); err != nil {
			return nil, err
		}
		if now := p.host.Load(); now.engine != nil && now.users.enter() {
			return now, nil
		} // else it was closed, or left, meanwhile
	}
}

// useRouted is use for a host that the router has chosen, after so many
// departures.
func (p *Pools) useRouted(ctx context.Context, name string, since uint64) (*Host, error) {
	if now := p.known(name); now != nil {
		return now, nil
	}
	if err := checkHost(name); err != nil {
		return nil, err
	}
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	defer p.leave()
	if now := p.known(name); now != nil {
		return now, nil
	}
	e, err := p.openHost(ctx, name)
	switch {
	case err == nil:
	case ctx.Err() != nil || p.isClosed():
		return nil, err
	default:
		return nil, Unreachable{err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := newHost(name, e)
	if p.departures.Load() != since { // it may be a member no more
		p.drain(now)
		return nil, errLeft
	}
	now.users.enter()
	p.routed.Store(name, now)
	return now, nil
}

// known counts a user of the host, where its pool is open.
func (p *Pools) known(name string) *Host {
	if now, ok := p.routed.Load(name); ok && now.(*Host).users.enter() {
		return now.(*Host)
	}
	return nil
}

// writing returns the engine of the host that the router has for writing.
func (p *Pools) writing(ctx context.Context) (driver.Engine, error) {
	for {
		since := p.departures.Load()
		r, err := p.router.Route(ctx, driver.RouteRequest{})
		if err != nil {
			return nil, err
		}
		used, err := p.useRouted(ctx, r.Host, since)
		switch {
		case err == nil:
			used.Leave()
			return used.engine, nil
		case !errors.Is(err, errLeft):
			return nil, err
		}
	}
}

// left is told by the router, see [driver.Router].
func (p *Pools) left(name string, gone bool) {
	if p.heard != nil {
		p.heard(name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch left, ok := p.routed.Load(name); {
	case !ok: // but a session may be about to open it
		p.departures.Add(1)
	case gone:
		p.routed.Delete(name)
		p.drain(left.(*Host))
	default:
		p.depart(left.(*Host))
	}
}

// depart sends those who wait for a connection of the host elsewhere. The
// caller holds mu, and new sessions find another host.
func (p *Pools) depart(left *Host) {
	p.departures.Add(1)
	for w := range left.waiting {
		w.cancel(errLeft)
	}
	clear(left.waiting)
}
