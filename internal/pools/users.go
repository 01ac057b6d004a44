package pools

import (
	"math"
	"sync/atomic"
)

// users counts the sessions that use a host, without a lock that all units would
// have to take.
type users struct {
	n    atomic.Int64  // since the host was left, math.MinInt64 more
	gone chan struct{} // closed once the host was left and has no users
}

func newUsers() *users { return &users{gone: make(chan struct{})} }

// enter counts one more, and reports false where the host was left.
func (u *users) enter() bool {
	for {
		n := u.n.Load()
		if n < 0 {
			return false
		}
		if u.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (u *users) leave() { u.change(-1) }

// close lets nobody enter any more. It is called once.
func (u *users) close() { u.change(math.MinInt64) }

func (u *users) change(by int64) {
	if u.n.Add(by) == math.MinInt64 {
		close(u.gone)
	}
}
