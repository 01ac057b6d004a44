package dbscope

import (
	"cmp"

	"github.com/dbscope/dbscope/observe"
)

// SharedOption is both a [DBOption] and an [Option].
type SharedOption interface {
	DBOption
	Option
}

// Name sets the name of the DB in errors, or of a unit for its observers, see
// [Observe]. The default of a DB, also for an empty name, is the database's name as
// found in the connection string, else the adapter's name. That of a unit is the route
// of the request that it is begun in, as the middleware knows it, or else the name of
// the unit around it, if it has one: jobs need one of their own. Names of units should
// be few, without numbers and the like in them, since metrics keep each of them.
func Name(name string) SharedOption { return nameOption(name) }

type nameOption string

func (n nameOption) applyToDB(o *dbOptions)       { o.name = cmp.Or(string(n), o.name) }
func (n nameOption) applyToScope(o *scopeOptions) { o.name = string(n) }

// Observe gives an observer to a DB or to a unit; see package observe. Several may be
// given. An observer of a unit sees the unit from its beginning, and the unit's context
// is the one that it returns, so that spans of tracers nest. An observer of a DB sees a
// unit from its first use of the DB: of that unit it sees this DB, its siblings, and
// hooks. It also sees statements outside of units. An observer that is given to both
// sees each thing once. The default is none, which costs nothing.
func Observe(observer observe.Observer) SharedOption { return observeOption{observer} }

type observeOption struct{ observer observe.Observer }

func (w observeOption) applyToDB(o *dbOptions)       { o.observers = w.append(o.observers) }
func (w observeOption) applyToScope(o *scopeOptions) { o.observers = w.append(o.observers) }

func (w observeOption) append(all []observe.Observer) []observe.Observer {
	if w.observer == nil {
		return all
	}
	return append(all, w.observer)
}

// MaxConns says how many connections the unit, with the units inside it, is meant to hold
// at a time. It refuses nothing: observers report a unit that holds more, see [Observe].
// The default, also for 0 and less, is that nothing is reported.
func MaxConns(n int) Option {
	return scopeOption(func(o *scopeOptions) { o.maxConns = max(n, 0) })
}
