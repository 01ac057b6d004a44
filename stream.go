package dbscope

import (
	"context"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/internal/errs"
)

func (c *control) Finish(ctx context.Context, commit bool) error {
	return finish(ctx, session.WishTo(commit), isOver, (*Scope)(c))
}

func (c *control) Stream(ctx context.Context, commit bool) error {
	s := (*Scope)(c)
	if !s.streams.Load() {
		s.streams.Store(true)
		for sl := range s.slots() {
			sl.dropSpare()
		}
	}
	if !c.ReadOnly() || s.isPart() {
		return nil
	}
	var failures error
	for sl := range s.slots() {
		if ss := sl.current.Load(); ss != nil {
			failures = errs.Joined(failures, sl.endIdle(ctx, ss, session.WishTo(commit && !s.rollbackOnly.Load())))
		}
	}
	return failures
}
