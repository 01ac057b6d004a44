package dbscope

import (
	"reflect"
	"runtime"
	"strings"

	"github.com/dbscope/dbscope/internal/pools"
)

// waitingUnit is a scope as the pools see it, to find a deadlock of units that
// wait for each other's connections.
type waitingUnit Scope

// asWaiting returns the scope for [pools.Place.Acquire], nil for none.
func asWaiting(s *Scope) pools.Unit {
	if s == nil {
		return nil
	}
	return (*waitingUnit)(s)
}

// HoldsAny implements [pools.Unit].
func (u *waitingUnit) HoldsAny() bool {
	return (*Scope)(u).holds(nil, func(*pools.Pools) bool { return true })
}

// Held implements [pools.Holder].
func (u *waitingUnit) Held(yield func(place any, host *pools.Host) bool) {
	for sl := u.first.Load(); sl != nil; sl = sl.next.Load() {
		if sl.holding.Load() == 1 && !yield(sl, sl.pool.Load()) {
			return
		}
	}
}

// The functions that are on the stack of who waits for a connection in a unit:
// the one that takes it, Run's for each unit that Run has begun, and some of a
// middleware's for the one that it has begun.
var (
	acquireFrame    = nameOf((*session).acquire)
	runFrame        = nameOf(runOnce)
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
			s = s.parent
		}
	}
	return all
}
