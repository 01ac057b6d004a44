// Package history records what clients ask of registers and what they are
// answered, and checks afterwards that somebody could have done it all in one
// order, each thing between its request and its answer: that the history is
// linearizable.
//
//	h := history.New()
//
//	op := h.Write("apples", "17")          // right before the request
//	switch err := put("apples", "17"); {   // right after it
//	case err == nil:
//		op.Done()
//	case surelyNotDone(err):
//		op.Failed()
//	default:
//		op.Unknown()
//	}
//
//	op = h.Read("apples")
//	value, err := get("apples")
//	if err == nil {
//		op.Saw(value)
//	}
//
//	err := h.Check(time.Minute)
//
// A key is a register of its own. It holds "" at first. Best give each write of
// a key another value: then a read tells which write it saw, and the check is
// fast however many outcomes are unknown.
package history

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// History is safe for concurrent use.
type History struct {
	mu    sync.Mutex
	begin time.Time
	last  int64
	ops   []*Op
}

// New returns an empty history.
func New() *History { return &History{begin: time.Now()} }

// outcome is what a client knows of an operation.
type outcome int

const (
	unknown outcome = iota // also: not answered yet
	done
	failed
)

// Op is a read or a write. One of its methods says how it went; without, nobody
// knows.
type Op struct {
	history        *History
	key, value     string // value: of a write, or what a read saw
	write          bool
	called, ended  int64 // ended: when the outcome was told
	outcome        outcome
	outcomeWasTold bool
}

// Write begins to write. Call it before the request goes out.
func (h *History) Write(key, value string) *Op {
	return h.call(&Op{key: key, value: value, write: true})
}

// Read begins to read. Call it before the request goes out.
func (h *History) Read(key string) *Op { return h.call(&Op{key: key}) }

func (h *History) call(o *Op) *Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.history, o.called = h, h.now()
	h.ops = append(h.ops, o)
	return o
}

// now is later than before: what followed on something must not seem to have
// been at the same time.
func (h *History) now() int64 {
	h.last = max(h.last+1, int64(time.Since(h.begin)))
	return h.last
}

// Done says that a write has been done.
func (o *Op) Done() {
	if !o.write {
		panic("history: a read is over with Saw")
	}
	o.end(done, o.value)
}

// Saw says what a read has been answered; "" is nothing.
func (o *Op) Saw(value string) {
	if o.write {
		panic("history: a write is over with Done")
	}
	o.end(done, value)
}

// Failed says that the operation has not been done, and will not be.
func (o *Op) Failed() { o.end(failed, o.value) }

// Unknown says that nobody knows. A write may have been done, may be done
// later, or never.
func (o *Op) Unknown() { o.end(unknown, o.value) }

func (o *Op) end(outcome outcome, value string) {
	o.history.mu.Lock()
	defer o.history.mu.Unlock()
	if o.outcomeWasTold {
		panic("history: an operation has one outcome")
	}
	o.outcomeWasTold, o.outcome, o.value, o.ended = true, outcome, value, o.history.now()
}

// Count says how many operations there are, and how many of the writes and
// reads have an unknown outcome, or have failed.
func (h *History) Count() (all, unknownOnes, failedOnes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.ops {
		switch o.outcome {
		case unknown:
			unknownOnes++
		case failed:
			failedOnes++
		}
	}
	return len(h.ops), unknownOnes, failedOnes
}

// keys are the operations of each key, in the order in which they were called.
func (h *History) keys() map[string][]Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := map[string][]Op{}
	for _, o := range h.ops {
		keys[o.key] = append(keys[o.key], *o)
	}
	for _, ops := range keys {
		slices.SortFunc(ops, func(a, b Op) int { return int(a.called - b.called) })
	}
	return keys
}

func (o *Op) String() string {
	what := fmt.Sprintf("read  %q", o.value)
	if o.write {
		what = fmt.Sprintf("write %q", o.value)
	}
	until := fmt.Sprintf("%12.6f s", time.Duration(o.ended).Seconds())
	switch o.outcome {
	case unknown:
		until = "       unknown"
	case failed:
		what += ", which failed"
	}
	return fmt.Sprintf("%12.6f - %s  %s", time.Duration(o.called).Seconds(), until, what)
}
