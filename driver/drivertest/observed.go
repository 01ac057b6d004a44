package drivertest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/observe"
)

// runObserved runs the part of the suite that is about dbscope.Observe.
func runObserved[H any](t *testing.T, h Harness[H]) {
	for name, test := range map[string]func(*suite[H], *witness){
		"a statement is told of with its text, and ends":                   (*suite[H]).statementTold,
		"a statement is sent with the context that its observer returns":   (*suite[H]).statementContext,
		"a query ends when its rows are closed":                            (*suite[H]).queryTold,
		"a statement that the server refuses ends with its error":          (*suite[H]).refusalTold,
		"a query whose rows are left open ends before the transaction":     (*suite[H]).leftOpenTold,
		"a statement of a nested block is told of as one of the session's": (*suite[H]).nestedTold,
	} {
		t.Run(name, func(t *testing.T) {
			w := &witness{}
			h.run(t, func(s *suite[H]) { test(s, w) }, dbscope.Observe(w))
		})
	}
}

// witness notes statements. Where break is set their contexts are over.
type witness struct {
	mu      sync.Mutex
	breaks  bool
	began   []observe.Event
	over    []observe.Event
	history []observe.Kind // of what ended
}

// Start implements [observe.Observer].
func (w *witness) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Kind != observe.Statement {
		return ctx, w
	}
	w.began = append(w.began, e)
	if w.breaks {
		over, cancel := context.WithCancelCause(ctx)
		cancel(errStop)
		return over, w
	}
	return ctx, w
}

// End implements [observe.Span].
func (w *witness) End(_ context.Context, e observe.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, e.Kind)
	if e.Kind == observe.Statement {
		w.over = append(w.over, e)
	}
}

// counts returns how many statements have begun, and are over.
func (w *witness) counts() (began, over int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.began), len(w.over)
}

func (s *suite[H]) told(w *witness, began, over int) {
	s.Helper()
	if b, o := w.counts(); b != began || o != over {
		s.Fatalf("%d statements have begun and %d are over, want %d and %d", b, o, began, over)
	}
}

func (s *suite[H]) statementTold(w *witness) {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		s.told(w, 1, 1)
		return nil
	}))
	if e := w.over[0]; e.Text == "" || e.Statements != 1 || e.Err != nil || e.DB == "" || e.Unit == 0 {
		s.Errorf("the statement is told of as %+v", e)
	}
}

func (s *suite[H]) statementContext(w *witness) {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		return nil
	}))
	w.breaks = true
	_ = s.run(func(ctx context.Context) error {
		if err := s.Insert(ctx, s.session(ctx), 2); err == nil {
			s.Error("a statement was run although its context is over")
		}
		return errStop
	})
	s.stored(1)
}

func (s *suite[H]) queryTold(w *witness) {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		next, end, err := s.Query(ctx, s.session(ctx))
		s.ok(err)
		s.told(w, 2, 1)
		s.ok(next())
		s.told(w, 2, 1)
		s.ok(end())
		s.told(w, 2, 2)
		return nil
	}))
}

func (s *suite[H]) refusalTold(w *witness) {
	_ = s.run(func(ctx context.Context) error { return s.Refused(ctx, s.session(ctx)) })
	s.told(w, 1, 1)
	if w.over[0].Err == nil {
		s.Error("the statement is told of without its error")
	}
}

func (s *suite[H]) leftOpenTold(w *witness) {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		_, _, err := s.Query(ctx, s.session(ctx))
		return err
	}))
	s.told(w, 2, 2)
	if slices.Index(w.history, observe.Transaction) < slices.Index(w.history, observe.Statement) {
		s.Errorf("they ended in the order %v", w.history)
	}
}

func (s *suite[H]) nestedTold(w *witness) {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		return s.db.Atomic(ctx, func(ctx context.Context) error { return s.Insert(ctx, s.session(ctx), 2) })
	}))
	s.told(w, 2, 2)
}
