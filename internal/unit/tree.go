package unit

import (
	"sync"
	"sync/atomic"
)

// Unit is a unit of work, in a tree of those that have been begun inside of others.
type Unit struct {
	Parent *Unit       // the unit around it, which may hold connections meanwhile
	Scope  any         // the dbscope.Scope that it is of
	ByRun  bool        // dbscope.Run has begun it, and so is on the stack of its function
	Group  any         // the same for those that are committed together, else nil
	Done   atomic.Bool // it only waits for the others of its Group

	Most        int32 // as many connections as it is meant to hold, 0 where nobody said
	id          atomic.Uint64
	connections atomic.Int32 // taken by it, and by those inside it
	watcher     Watcher      // of the connections, or nil

	mu       sync.Mutex // guards the rest, and the place among its siblings of each unit inside
	closed   bool       // none begins inside it any more
	inside   *Unit      // one of those that have not left
	previous *Unit      // another one inside the same parent
	next     *Unit
}

// Watcher is told when a unit comes to hold a connection, and when it holds none any
// more.
type Watcher = interface{ HoldingChanged() }

// Join makes the unit one of those inside the innermost unit around it that is not
// closed.
func (u *Unit) Join(around *Unit) {
	for p := around; p != nil; p = p.Parent {
		if p.takeIn(u) {
			u.Parent = p
			return
		}
	}
}

func (u *Unit) takeIn(inner *Unit) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	if inner.next = u.inside; inner.next != nil {
		inner.next.previous = inner
	}
	u.inside = inner
	return true
}

// Close lets no unit begin inside it any more.
func (u *Unit) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
}

// Leave takes the unit, which is over, out of the one around it.
func (u *Unit) Leave() {
	p := u.Parent
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case u.previous != nil:
		u.previous.next = u.next
	case p.inside == u:
		p.inside = u.next
	default:
		return // it has left before
	}
	if u.next != nil {
		u.next.previous = u.previous
	}
	u.previous, u.next = nil, nil
}

// Inside returns the units inside it that have not left.
func (u *Unit) Inside() (all []*Unit) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for inner := u.inside; inner != nil; inner = inner.next {
		all = append(all, inner)
	}
	return all
}

// Watch is for before the unit takes a connection.
func (u *Unit) Watch(w Watcher) { u.watcher = w }

// Took counts a connection that was taken, or with -1 given back, for the unit and
// those around it.
func (u *Unit) Took(n int32) {
	for ; u != nil; u = u.Parent {
		if now := u.connections.Add(n); u.watcher != nil && (now == 0 || now == n) {
			u.watcher.HoldingChanged()
		}
	}
}

var lastID atomic.Uint64

// ID returns a number that no other unit of the process has. It is made when it is first
// asked for. That of no unit is 0.
func (u *Unit) ID() uint64 {
	if u == nil {
		return 0
	}
	if u.id.Load() == 0 {
		u.id.CompareAndSwap(0, lastID.Add(1))
	}
	return u.id.Load()
}

// Budget returns how many connections the unit holds, with those inside it, and is meant
// to hold: it, or the nearest around it of which that is known.
func (u *Unit) Budget() (now, most int) {
	for at := u; at != nil; at = at.Parent {
		if at.Most > 0 {
			return int(at.connections.Load()), int(at.Most)
		}
	}
	return int(u.connections.Load()), 0
}

// Holding reports whether the unit, or one inside it, has a connection.
func (u *Unit) Holding() bool { return u.connections.Load() > 0 }
