package pools

import (
	"sync"

	"github.com/dbscope/dbscope/driver"
)

// Unit is a unit of work that waits for a connection.
type Unit interface {
	// HoldsAny reports whether it, or one around it, holds a connection.
	HoldsAny() bool
	// Blocked returns the units that cannot end before the caller returns.
	Blocked() []Holder
}

// Holder is a unit of work that may hold connections.
type Holder interface {
	// Held yields the places that hold exactly one, and of which host.
	Held(yield func(place any, host *Host) bool)
}

// waiter is a unit that holds a connection and waits for another one.
type waiter struct {
	host    *Host    // whose pool it waits for
	blocked []Holder // those that it keeps from their end
	cancel  func(error)
	limit   int // of the pool's connections
	done    bool
}

// waiters are all of them, of whatever databases. A unit that holds no connection
// keeps nobody waiting, and is not among them.
var waiters = struct {
	mu  sync.Mutex // guards limit and done of each, too
	all map[*waiter]struct{}
}{all: map[*waiter]struct{}{}}

// watch finds out whether the wait that begins now completes a deadlock. The
// caller's pool may hold a lock of its own: so it is asked for its limit in a
// goroutine, which there is only for units that hold a connection and find none
// at hand.
func (w *Wait) watch() *waiter {
	pool, ok := w.at.Host.engine.(driver.Limited)
	if !ok || w.unit == nil || !w.unit.HoldsAny() {
		return nil
	}
	one := &waiter{host: w.at.Host, blocked: w.unit.Blocked(), cancel: w.cancel}
	if len(one.blocked) == 0 {
		return nil
	}
	go one.join(pool)
	return one
}

func (w *waiter) join(pool driver.Limited) {
	limit := pool.MaxConns()
	waiters.mu.Lock()
	defer waiters.mu.Unlock()
	if w.done {
		return
	}
	w.limit = limit
	waiters.all[w] = struct{}{}
	if w.stuck() {
		delete(waiters.all, w) // so that no other one is told of the same
		w.cancel(ErrDeadlock)
	}
}

// part is called once the wait is over.
func (w *waiter) part() {
	waiters.mu.Lock()
	defer waiters.mu.Unlock()
	w.done = true
	delete(waiters.all, w)
}

// stuck reports whether all connections of the pool are held by units that wait
// for a connection of a pool of which the same is true. It begins with the pools
// that somebody waits for, and takes away those where a connection may yet be
// given back. The caller holds waiters.mu.
func (w *waiter) stuck() bool {
	limits := map[*Host]int{}
	for other := range waiters.all {
		limits[other.host] = other.limit
	}
	for before := 0; before != len(limits); {
		before = len(limits)
		for host, limit := range limits {
			if limit <= 0 || heldByWaiters(host, limits) < limit {
				delete(limits, host)
			}
		}
	}
	_, is := limits[w.host]
	return is
}

// heldByWaiters counts the connections of a host that units hold which wait for
// one of the others.
func heldByWaiters(host *Host, others map[*Host]int) int {
	held := map[any]struct{}{} // several may wait inside one unit
	for w := range waiters.all {
		if _, waits := others[w.host]; !waits {
			continue
		}
		for _, unit := range w.blocked {
			for place, of := range unit.Held {
				if of == host {
					held[place] = struct{}{}
				}
			}
		}
	}
	return len(held)
}
