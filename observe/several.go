package observe

import (
	"context"
	"slices"
)

// Together returns an observer that passes all it is told on to the observers, in their
// order, those that are nil left out; nil where there are none. A context goes through
// all of them.
func Together(observers ...Observer) Observer {
	several := slices.DeleteFunc(slices.Clone(observers), func(o Observer) bool { return o == nil })
	switch len(several) {
	case 0:
		return nil
	case 1:
		return several[0]
	}
	return &together{several}
}

// together is comparable by its pointer.
type together struct{ observers []Observer }

// Start implements [Observer].
func (t *together) Start(ctx context.Context, e Event) (context.Context, Span) {
	return start(ctx, e, t.observers)
}

// pair is what two observers have answered with, of which the second may be a pair too.
type pair struct{ first, second Span }

// Start implements [Observer].
func (p *pair) Start(ctx context.Context, e Event) (context.Context, Span) {
	ctx, first := p.first.Start(ctx, e)
	ctx, second := p.second.Start(ctx, e)
	return ctx, both(first, second)
}

// End implements [Span]: the last to begin is the first to end.
func (p *pair) End(ctx context.Context, e Event) {
	p.second.End(ctx, e)
	p.first.End(ctx, e)
}

// both makes one of two answers, each of which may be nil.
func both(first, second Span) Span {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return &pair{first, second}
}

// start asks all of them, and makes one of their answers.
func start(ctx context.Context, e Event, all []Observer) (context.Context, Span) {
	if len(all) == 0 {
		return ctx, nil
	}
	ctx, first := all[0].Start(ctx, e)
	ctx, others := start(ctx, e, all[1:])
	return ctx, both(first, others)
}
