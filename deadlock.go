package dbscope

import (
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync"

	"github.com/dbscope/dbscope/driver"
)

// errStuck ends the wait of a unit that could only end with it.
var errStuck = errors.New("all connections are held by units that wait")

// waiter is a unit that holds a connection and waits for another one.
type waiter struct {
	host    *host    // whose pool it waits for
	blocked []*Scope // those that it keeps from their end
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
func (w *waiting) watch() *waiter {
	pool, ok := w.host.engine.(driver.Limited)
	if !ok || w.scope == nil || !w.scope.holdsAny() {
		return nil
	}
	one := &waiter{host: w.host, blocked: w.scope.blocked(), cancel: w.cancel}
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
		w.cancel(errStuck)
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
	pools := map[*host]int{}
	for other := range waiters.all {
		pools[other.host] = other.limit
	}
	for before := 0; before != len(pools); {
		before = len(pools)
		for pool, limit := range pools {
			if limit <= 0 || heldByWaiters(pool, pools) < limit {
				delete(pools, pool)
			}
		}
	}
	_, is := pools[w.host]
	return is
}

// heldByWaiters counts the connections of a pool that units hold which wait for
// one of the pools.
func heldByWaiters(pool *host, pools map[*host]int) int {
	held := map[*slot]struct{}{} // several may wait inside one unit
	for w := range waiters.all {
		if _, waits := pools[w.host]; !waits {
			continue
		}
		for _, s := range w.blocked {
			for sl := s.first.Load(); sl != nil; sl = sl.next.Load() {
				if sl.holding.Load() == 1 && sl.pool.Load() == pool {
					held[sl] = struct{}{}
				}
			}
		}
	}
	return len(held)
}

// holdsAny reports whether the scope, or one around it, holds a connection.
func (s *Scope) holdsAny() bool {
	return s.holds(nil, func(*hosts) bool { return true })
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

// blocked returns the scopes, the innermost first, whose functions cannot return
// before the caller does, since the caller runs in them. A unit that a goroutine
// begins does not keep the unit around it from its end, unless that waits for the
// goroutine, which nobody can see.
func (s *Scope) blocked() (all []*Scope) {
	pcs := make([]uintptr, 256)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	waits := false
	for more := true; more && s != nil; {
		var f runtime.Frame
		f, more = frames.Next()
		switch {
		case f.Function == acquireFrame:
			waits = true
		case waits && (s.run && f.Function == runFrame || !s.run && strings.HasPrefix(f.Function, middlewareFrame)):
			all = append(all, s)
			s = s.parent
		}
	}
	return all
}
