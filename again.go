package dbscope

import "context"

// Again reports whether a unit that was undone is to be run again, in a new
// scope, and blocks for the wait before it, or until ctx is done. err is what
// the unit ended with, nil where that was no error; attempt counts from 1. It
// is for writers of middlewares, after the scope's end; [Run] does it.
func (s *Scope) Again(ctx context.Context, attempt int, err error) bool {
	return s.again(ctx, attempt, &err)
}

func (s *Scope) again(ctx context.Context, attempt int, err *error) bool {
	p := s.opts.retry
	if p == nil || !s.Transient(*err) && (*err != nil || !s.repeatable() || !s.met.Load()) {
		return false
	}
	failed := p.wait(ctx, attempt, *err)
	if failed != nil {
		*err = failed
	}
	return failed == nil
}

// Transient reports whether a unit that was undone may succeed when its caller
// asks for it again, whole: nothing of it is committed or may be, and err, with
// which its commit failed, is one that [Retry] would act on. It is for writers
// of middlewares, who tell the client so. It does not block.
func (s *Scope) Transient(err error) bool {
	return s.repeatable() && (s.transient.Load() || s.knows(err))
}

// repeatable reports whether the unit left nothing that a repetition would
// double, and was not undone by choice.
func (s *Scope) repeatable() bool {
	return !s.committed.Load() && !s.rollbackOnly.Load() && s.why.Load() == nil
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
