// Package watch tells observers what happens in units of work. Where nobody observes,
// its values are nil, and their methods do nothing.
package watch

import (
	"context"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/observe"
)

// Op is something that has begun, of which somebody wants to be told. The zero value is
// something that nobody does.
type Op struct {
	span  observe.Span
	ctx   context.Context // that it is done with
	event observe.Event
}

// Start tells the observer, which may be nil, of something that begins, and returns the
// context for it.
func Start(ctx context.Context, o observe.Observer, e observe.Event) (context.Context, Op) {
	if o == nil {
		return ctx, Op{}
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	ctx, span := o.Start(ctx, e)
	return ctx, Op{span, ctx, e}
}

// End tells that it is over, once.
func (op *Op) End(outcome observe.Outcome, err error) {
	if op.span == nil {
		return
	}
	e := op.event
	e.Duration, e.Outcome, e.Err = time.Since(e.Time), outcome, err
	span := op.span
	op.span = nil
	span.End(op.ctx, e)
}

// inside is who is told of what is inside it, or nil.
func (op *Op) inside() observe.Observer {
	if op.span == nil {
		return nil // and not an interface of a nil
	}
	return op.span
}

// OutcomeOf is the observers' word for an outcome.
func OutcomeOf(o driver.Outcome) observe.Outcome {
	switch o {
	case driver.Committed:
		return observe.Committed
	case driver.RolledBack:
		return observe.RolledBack
	}
	return observe.Unknown
}

// observing is set once a DB has an observer: only then do units note when they begin.
var observing atomic.Bool

// Expect is for a DB with an observer.
func Expect() { observing.Store(true) }

// Now is the time, where a DB may come to have to tell it; else it is zero.
func Now() (now time.Time) {
	if observing.Load() {
		now = time.Now()
	}
	return now
}

// same reports whether two observers are one.
func same(a, b observe.Observer) bool {
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}
