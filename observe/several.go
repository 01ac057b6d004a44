package observe

import "context"

// Together returns an observer that passes all it is told on to the observers, in their
// order, those that are nil left out; nil where there are none. A context goes through
// all of them.
func Together(observers ...Observer) Observer {
	t := &together{}
	for _, o := range observers {
		switch o := o.(type) {
		case nil:
		case *together:
			t.observers = append(t.observers, o.observers...)
		case *spans:
			for _, span := range o.all {
				t.observers = append(t.observers, span)
			}
		default:
			t.observers = append(t.observers, o)
		}
	}
	switch len(t.observers) {
	case 0:
		return nil
	case 1:
		return t.observers[0]
	}
	return t
}

// together is comparable by its pointer.
type together struct{ observers []Observer }

// Start implements [Observer].
func (t *together) Start(ctx context.Context, e Event) (context.Context, Span) {
	return ask(ctx, e, t.observers)
}

// spans are what several observers have answered with.
type spans struct {
	all []Span
	few [4]Span // the usual ones are one allocation
}

// Start implements [Observer].
func (s *spans) Start(ctx context.Context, e Event) (context.Context, Span) {
	return ask(ctx, e, s.all)
}

// End implements [Span]: the last to begin is the first to end.
func (s *spans) End(ctx context.Context, e Event) {
	for i := len(s.all) - 1; i >= 0; i-- {
		s.all[i].End(ctx, e)
	}
}

// ask asks all of them, and makes one of their answers.
func ask[O Observer](ctx context.Context, e Event, all []O) (context.Context, Span) {
	var one Span
	var several *spans
	for _, o := range all {
		var answer Span
		ctx, answer = o.Start(ctx, e) //nolint:fatcontext // as many as there are observers
		switch {
		case answer == nil:
		case one == nil:
			one = answer
		case several == nil:
			several = &spans{few: [4]Span{one, answer}}
			several.all = several.few[:2]
		default:
			several.all = append(several.all, answer)
		}
	}
	if several != nil {
		return ctx, several
	}
	return ctx, one
}
