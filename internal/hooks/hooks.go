// Package hooks has lists of functions that wait for the end of a transaction.
// They are not safe for concurrent use.
package hooks

import (
	"cmp"
	"context"
	"slices"

	"github.com/dbscope/dbscope/driver"
)

// Hook is a function that waits for the end of a transaction.
type Hook struct {
	When  Moment
	mixed bool // it is the first of a list that has to be sorted
	Fn    func(context.Context) error
	Turn  uint64 // in which it was registered in its scope
	Next  *Hook  // of its list
}

// Moment is when a hook runs.
type Moment uint8

// The moments.
const (
	BeforeCommit Moment = iota
	AfterCommit
	AfterRollback
	AfterEnd // of the whole, however it ends: the part was undone
)

func (m Moment) String() string {
	return [...]string{"before commit", "after commit", "after rollback", "after end"}[m]
}

// due reports whether an after-hook runs when what it waits for ended so.
func (h *Hook) due(o driver.Outcome) bool {
	switch h.When {
	case AfterCommit:
		return o == driver.Committed
	case AfterRollback:
		return o == driver.RolledBack
	default:
		return h.When == AfterEnd
	}
}

// List has hooks. They leave it in the order they were registered in.
type List struct{ Head, tail *Hook }

func (l *List) add(h *Hook) {
	h.Next = nil
	if l.tail == nil {
		l.Head = h
	} else {
		l.tail.Next = h
	}
	l.tail = h
}

// Take takes the first hook, or returns nil.
func (l *List) Take() *Hook {
	l.sort()
	h := l.Head
	if h != nil {
		if l.Head = h.Next; l.Head == nil {
			l.tail = nil
		}
		h.Next = nil
	}
	return h
}

// Absorb takes all hooks of another list. It costs nothing how many there are:
// where some are earlier than those in front of them, they wait to be sorted.
func (l *List) Absorb(other *List) {
	switch {
	case other.Head == nil:
		return
	case l.Head == nil:
		*l = *other
	default:
		l.Head.mixed = l.Head.mixed || other.Head.mixed || l.tail.Turn > other.Head.Turn
		l.tail.Next, l.tail = other.Head, other.tail
	}
	*other = List{}
}

func (l *List) sort() {
	if l.Head == nil || !l.Head.mixed {
		return
	}
	var all []*Hook
	for h := l.Head; h != nil; h = h.Next {
		h.mixed = false
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *Hook) int { return cmp.Compare(a.Turn, b.Turn) })
	*l = List{}
	for _, h := range all {
		l.add(h)
	}
}

// Earlier returns the list whose first hook was registered before that of the
// other.
func Earlier(a, b *List) *List {
	a.sort()
	b.sort()
	if a.Head == nil || b.Head != nil && b.Head.Turn < a.Head.Turn {
		return b
	}
	return a
}

// filter keeps those that keep reports true for.
func (l *List) filter(keep func(*Hook) bool) {
	var kept List
	for h := l.Take(); h != nil; h = l.Take() {
		if keep(h) {
			kept.add(h)
		}
	}
	*l = kept
}

// Waiting are hooks that wait for the same end.
type Waiting struct{ Before, After List }

// add adds a hook, which is the latest.
func (w *Waiting) add(h *Hook) {
	if h.When == BeforeCommit {
		w.Before.add(h)
	} else {
		w.After.add(h)
	}
}

// absorb takes all hooks that wait for another end.
func (w *Waiting) absorb(other *Waiting) {
	w.Before.Absorb(&other.Before)
	w.After.Absorb(&other.After)
}

// Empty reports whether there are none.
func (w *Waiting) Empty() bool { return w.Before.Head == nil && w.After.Head == nil }

// undone leaves of the hooks of a block that was undone those of AfterRollback,
// which run once the whole has ended.
func (w *Waiting) undone() {
	w.Before = List{}
	w.After.filter(func(h *Hook) bool {
		if h.When == AfterCommit {
			return false
		}
		h.When = AfterEnd
		return true
	})
}

// ended moves the hooks that are due when what they wait for has ended so, and
// forgets the other after-hooks. Those of BeforeCommit stay: they may wait for
// another end.
func (w *Waiting) ended(o driver.Outcome, due *List) {
	w.After.filter(func(h *Hook) bool { return h.due(o) })
	due.Absorb(&w.After)
}
