package dbscope

import (
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

// Blocked implements [pools.Unit].
func (u *waitingUnit) Blocked() (all []pools.Holder) {
	for _, inside := range u.unit.Blocked() {
		all = append(all, (*waitingUnit)(inside.Scope.(*Scope)))
	}
	return all
}
