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

// spans are what several observers have answered with.
type spans []Span

// Start implements [Observer].
func (s spans) Start(ctx context.Context, e Event) (context.Context, Span) { return start(ctx, e, s) }

// End implements [Span]: the last to begin is the first to end.
func (s spans) End(ctx context.Context, e Event) {
	for _, span := range slices.Backward(s) {
		span.End(ctx, e)
	}
}

// start asks all of them, and makes one of their answers.
func start[O Observer](ctx context.Context, e Event, all []O) (context.Context, Span) {
	if len(all) == 0 {
		return ctx, nil
	}
	ctx, first := all[0].Start(ctx, e)
	ctx, others := start(ctx, e, all[1:])
	switch more, several := others.(spans); {
	case others == nil:
		return ctx, first
	case first == nil:
		return ctx, others
	case several:
		return ctx, append(spans{first}, more...)
	}
	return ctx, spans{first, others}
}
