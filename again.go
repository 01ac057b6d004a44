package dbscope

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope/internal/backoff"
	"github.com/dbscope/dbscope/observe"
)

func (c *control) Again(ctx context.Context, attempt int, err error) bool {
	return (*Scope)(c).again(ctx, attempt, &err)
}

// Failed implements Control of package middleware. Where a statement has made the
// transaction fail, that is a part of the reason.
func (c *control) Failed(err error) {
	w := c.watch.Load()
	if w == nil {
		return
	}
	for ss := range (*Scope)(c).sessions() {
		if why := ss.Broken(); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
			break
		}
	}
	w.Failed(err)
}

func (c *control) Attempt(number int) { c.attempt.Store(int32(number)) }

func (c *control) Transient(err error) bool { return (*Scope)(c).canRepeat(err) }

// again reports whether a unit that was undone is to be run again, after the wait
// before it.
func (s *Scope) again(ctx context.Context, attempt int, err *error) bool {
	p := s.opts.retry
	if p == nil || !s.mayWork(*err) {
		return false
	}
	failed := s.waitForNext(ctx, p, attempt, *err)
	if failed != nil {
		*err = failed
	}
	return failed == nil
}

// waitForNext blocks before the attempt after the given one, which failed with err.
func (s *Scope) waitForNext(ctx context.Context, p *backoff.Policy, attempt int, err error) error {
	w := s.watch.Load()
	if attempt >= p.Attempts {
		w = nil
	}
	ctx, op := w.Start(ctx, observe.Event{Kind: observe.Retry, Attempt: attempt + 1, Err: err})
	failed := p.Wait(ctx, attempt, err)
	op.End(observe.None, failed)
	return failed
}

// mayWork reports whether another attempt is worth it.
func (s *Scope) mayWork(err error) bool {
	return s.canRepeat(err) || err == nil && s.repeatable() && s.sawTransient.Load()
}

// isRunAgain reports of a unit that has failed whether there is to be another attempt.
func (s *Scope) isRunAgain(err error) bool {
	p := s.opts.retry
	return p != nil && err != nil && max(int(s.attempt.Load()), 1) < p.Attempts && s.mayWork(err)
}

// canRepeat reports whether the unit may succeed when it is run again, whole.
func (s *Scope) canRepeat(err error) bool {
	return s.repeatable() && (s.transient.Load() || s.knows(err))
}

// repeatable reports whether the unit left nothing that a repetition would
// double, and was not undone by choice.
func (s *Scope) repeatable() bool {
	return !s.committed.Load() && !s.rollbackOnly.Load() && s.abortedBy.Load() == nil
}

// knows reports whether one of the scope's databases calls the error transient.
func (s *Scope) knows(err error) bool {
	for sl := s.first.Load(); sl != nil; sl = sl.next.Load() {
		if sl.db.Transient(err) {
			return true
		}
	}
	return false
}
