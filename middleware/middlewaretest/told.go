package middlewaretest

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/observe"
)

// told are the scenarios about what observers are told.
var told = []Scenario{
	{Name: "observers are told of an answer that tells of a failure", Needs: []Ability{Failures}, run: func(s *stage) {
		for status, fails := range map[int]bool{200: false, 400: false, 404: false, 500: true, 503: true} {
			s.wantFailure(fails, func(x Exchange) error {
				x.Status(status)
				return x.Write("the handler's words")
			})
		}
	}},
	{Name: "observers are told of a returned error", Needs: []Ability{Failures}, run: func(s *stage) {
		s.wantFailure(true, func(Exchange) error { return errors.New("no") })
	}},
	{Name: "observers are told of a panic", Needs: []Ability{Failures, Recover}, run: func(s *stage) {
		s.wantFailure(true, func(Exchange) error { panic("on purpose") })
	}},
}

// failures receives what each unit has failed with.
type failures chan error

// Start implements [observe.Observer].
func (f failures) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	if e.Kind == observe.Unit {
		return ctx, f
	}
	return ctx, nil
}

// End implements [observe.Span].
func (f failures) End(_ context.Context, e observe.Event) {
	if e.Kind == observe.Unit {
		f <- e.Err
	}
}

// wantFailure checks whether the observers of a DB are told that a unit has failed.
func (s *stage) wantFailure(fails bool, end func(Exchange) error) {
	s.Helper()
	told := make(failures, 1)
	s.db = s.fake.DB(dbscope.Observe(told))
	_, _ = s.call(s.serve(func(x Exchange) error {
		if err := s.store(x.Context(), "row"); err != nil {
			return err
		}
		return end(x)
	}))
	select {
	case err := <-told:
		if (err != nil) != fails {
			s.Errorf("the observer was told of %v", err)
		}
	case <-s.ctx.Done():
		s.Errorf("the observer was not told of the unit's end")
	}
}
