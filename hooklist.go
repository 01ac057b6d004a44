package dbscope

import (
	"context"

	"github.com/dbscope/dbscope/driver"
)

// hook is a function that waits for the end of a transaction.
type hook struct {
	when moment
	fn   func(context.Context) error
	turn uint64 // in which it was registered in its scope
	next *hook  // of its list
}

type moment uint8

const (
	beforeCommit moment = iota
	afterCommit
	afterRollback
	afterEnd // of the whole, however it ends: the part was undone
)

// due reports whether an after-hook runs when what it waits for ended so.
func (h *hook) due(o driver.Outcome) bool {
	switch h.when {
	case afterCommit:
		return o == driver.Committed
	case afterRollback:
		return o == driver.RolledBack
	default:
		return h.when == afterEnd
	}
}

// hookList has hooks in the order they were registered in.
type hookList struct{ head, tail *hook }

func (l *hookList) add(h *hook) {
	h.next = nil
	if l.tail == nil {
		l.head = h
	} else {
		l.tail.next = h
	}
	l.tail = h
}

// take takes the first hook, or returns nil.
func (l *hookList) take() *hook {
	h := l.head
	if h != nil {
		if l.head = h.next; l.head == nil {
			l.tail = nil
		}
		h.next = nil
	}
	return h
}

// absorb takes all hooks of another list. In most cases they are all later, for
// which it costs nothing how many there are.
func (l *hookList) absorb(other *hookList) {
	switch {
	case other.head == nil:
		return
	case l.head == nil:
		*l = *other
	case l.tail.turn < other.head.turn:
		l.tail.next, l.tail = other.head, other.tail
	default:
		var merged hookList
		for l.head != nil && other.head != nil {
			if l.head.turn < other.head.turn {
				merged.add(l.take())
			} else {
				merged.add(other.take())
			}
		}
		merged.absorb(l)
		merged.absorb(other)
		*l = merged
	}
	*other = hookList{}
}

// filter keeps those that keep reports true for.
func (l *hookList) filter(keep func(*hook) bool) {
	var kept hookList
	for h := l.take(); h != nil; h = l.take() {
		if keep(h) {
			kept.add(h)
		}
	}
	*l = kept
}

// hooks wait for the same end. They are guarded by their scope's mu.
type hooks struct{ before, after hookList }

func (l *hooks) add(h *hook) {
	if h.when == beforeCommit {
		l.before.add(h)
	} else {
		l.after.add(h)
	}
}

func (l *hooks) absorb(other *hooks) {
	l.before.absorb(&other.before)
	l.after.absorb(&other.after)
}

func (l *hooks) empty() bool { return l.before.head == nil && l.after.head == nil }

// undone leaves of the hooks of a block that was undone those of AfterRollback,
// which run once the whole has ended.
func (l *hooks) undone() {
	l.before = hookList{}
	l.after.filter(func(h *hook) bool {
		if h.when == afterCommit {
			return false
		}
		h.when = afterEnd
		return true
	})
}

// ended moves the hooks that are due when what they wait for has ended so, and
// forgets the other after-hooks. Those of BeforeCommit stay: they may wait for
// another end.
func (l *hooks) ended(o driver.Outcome, due *hookList) {
	l.after.filter(func(h *hook) bool { return h.due(o) })
	due.absorb(&l.after)
}

// blockHooks are those of one block.
type blockHooks struct {
	session hooks // that wait for the end of the block's session
	scope   hooks // that wait for the end of the scope
}
