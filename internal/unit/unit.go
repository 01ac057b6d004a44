// Package unit has the units of work as a tree, and what a stand-in for the pools
// knows of those that take connections, and the core of the stand-in: so package
// scopetest keeps the transactions of a test on one connection.
package unit

import (
	"context"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/observe"
)

// Acquisition is the wish for a connection.
type Acquisition struct {
	Pools  *pools.Pools  // of the database
	Engine driver.Engine // the pool it would be taken from
	Unit   *Unit         // nil for a statement outside units
	Owner  Owner
}

// Owner is who has taken a connection.
type Owner interface {
	// Abandon undoes what it has begun, at once, or when its statement returns.
	Abandon(ctx context.Context) error
}

// Sandbox gives out the connections in place of the pools. It is safe for
// concurrent use.
type Sandbox interface {
	Acquire(ctx context.Context, a Acquisition) (Conn, error)
	// Wake tells that a unit is done.
	Wake()
}

// Conn is a connection that several transactions share: each of them, also one
// of a statement outside units, begins and ends on it.
type Conn interface {
	driver.Conn
	// Enter waits for the turn of a statement, or of the reading of its rows, and
	// returns the connection to run it on.
	Enter(ctx context.Context) (driver.Conn, error)
	// Exit gives the turn up. Where it has none it does nothing.
	Exit()
}

// ControlKey is the key under which the context of a scope has what package
// middleware may do with the scope beside its owner: so that it is not among the
// methods which everybody meets.
type ControlKey struct{}

// Caller is what the value of [ControlKey] does for a call that leaves the process: it
// returns the names of the DBs whose transactions are open meanwhile, and has the unit's
// observers told. done is nil where none is open or nobody is told; else it is to be
// called when the call is over.
type Caller interface {
	Calls(ctx context.Context, whom string) (_ context.Context, open []string, done func(error))
}

// surroundings are what a test has put around units.
type surroundings struct {
	box       Sandbox
	observers []observe.Observer
}

type (
	aroundKey  struct{}
	fixtureKey struct{}
)

// In returns a context whose units take their connections from the sandbox, and have the
// observers beside their own.
func In(ctx context.Context, b Sandbox, observers ...observe.Observer) context.Context {
	return context.WithValue(ctx, aroundKey{}, &surroundings{b, observers})
}

// Around returns the sandbox of the context, or nil, and the observers that units have
// in it.
func Around(ctx context.Context) (Sandbox, []observe.Observer) {
	if s, is := Value(ctx, aroundKey{}).(*surroundings); is {
		return s.box, s.observers
	}
	return nil, nil
}

// SandboxOf returns the sandbox of the context, or nil.
func SandboxOf(ctx context.Context) Sandbox {
	b, _ := Around(ctx)
	return b
}

// Fixture returns a context in which a statement may be outside of units.
func Fixture(ctx context.Context) context.Context {
	return context.WithValue(ctx, fixtureKey{}, true)
}

// IsFixture reports whether the context is one of Fixture.
func IsFixture(ctx context.Context) bool { return Value(ctx, fixtureKey{}) != nil }
