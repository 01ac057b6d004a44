package dbscope

import (
	"reflect"
	"runtime"
	"strings"

	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/pools"
)

// waitingUnit is a scope as the pools see it, to find a deadlock of units that
// wait for each other's connections.
type waitingUnit Scope

// HoldsAny implements [pools.Unit].
func (u *waitingUnit) HoldsAny() bool {
	return (*Scope)(u).holds(nil, func(*pools.Pools) bool { return true })
}

// Held implements [pools.Holder].
func (u *waitingUnit) Held(yield func(place any, host *pools.Host) bool) {
	for sl := range (*Scope)(u).slots() {
		if sl.holding.Load() == 1 && !yield(sl, sl.pool.Load()) {
			return
		}
	}
}

// holds reports whether the scope or one that waits for it keeps a connection
// of such a pool taken, other than the slot that asks.
func (s *Scope) holds(except *slot, such func(*pools.Pools) bool) bool {
	for ; s != nil; s = s.parent() {
		for sl := range s.slots() {
			if sl != except && sl.holding.Load() > 0 && such(sl.db.Pools) {
				return true
			}
		}
	}
	return false
}

// inGroup reports whether the scope, or one that waits for it, is one of a
// Group whose others may keep connections taken until it ends.
func (s *Scope) inGroup() bool {
	for s != nil && !s.together() {
		s = s.parent()
	}
	return s != nil
}

// mayWaitForItself tells which connection the scope, or one that waits for it, holds
// while another one of the database is taken, where that may wait until the first is
// given back. The connections of one slot do not count.
func (s *Scope) mayWaitForItself(d *link.Database, except *slot) pools.Limit {
	switch {
	case s.inGroup() || s.holds(except, func(p *pools.Pools) bool { return p == d.Pools }):
		return pools.HoldsOneOfTheSame
	case s.holds(except, (*pools.Pools).Awaited):
		return pools.HoldsOneOfAnother
	}
	return pools.Limit{}
}

// The functions that are on the stack of who waits for a connection in a unit:
// the one that takes it, Run's for each unit that Run has begun, and some of a
// middleware's for the one that it has begun.
var (
	acquireFrame    = nameOf((*link.Link).Acquire)
	runFrame        string // see run.go
	middlewareFrame = reflect.TypeFor[Scope]().PkgPath() + "/middleware/"
)

func nameOf(fn any) string { return runtime.FuncForPC(reflect.ValueOf(fn).Pointer()).Name() }

// Blocked implements [pools.Unit]: the scopes, the innermost first, whose
// functions cannot return before the caller does, since the caller runs in them.
// A unit that a goroutine begins does not keep the unit around it from its end,
// unless that waits for the goroutine, which nobody can see.
func (u *waitingUnit) Blocked() (all []pools.Holder) {
	pcs := make([]uintptr, 256)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	waits := false
	s := (*Scope)(u)
	for more := true; more && s != nil; {
		var f runtime.Frame
		f, more = frames.Next()
		switch {
		case f.Function == acquireFrame:
			waits = true
		case waits && (s.run && f.Function == runFrame || !s.run && strings.HasPrefix(f.Function, middlewareFrame)):
			all = append(all, (*waitingUnit)(s))
			s = s.parent()
		}
	}
	return all
}
