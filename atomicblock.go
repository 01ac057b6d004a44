package dbscope

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// atomicBlock says how an Atomic block is to begin.
type atomicBlock struct {
	tx        driver.TxOptions
	mode      bool // it was given a mode, which a part of something cannot have
	continues bool // the end of the block is that of the transaction, also of one that is open
	refuses   bool // an open transaction is an error
	part      bool // of what the unit has under way, though nothing was done yet
	awaited   bool // a hook waits for the end of the session
}

// beginAtomic begins an Atomic block in a session that the caller has taken, and
// leaves it.
func (s *session) beginAtomic(ctx context.Context, a atomicBlock) (*block, error) {
	a.part = a.part || s.innermost() != nil || s.Adopted != nil
	if err := s.admitAtomic(a); err != nil {
		return nil, s.leave(err)
	}
	b := &block{s: s, atomic: true, outer: contextBlock(ctx)}
	if !a.part && (!s.begun || a.continues) {
		b.kind = owner
	}
	if b.kind == owner && !s.begun {
		s.WillHave(a.tx)
		b.alone = !a.awaited
	}
	return b, s.push(ctx, b)
}

// admitAtomic refuses what the open transaction does not allow.
func (s *session) admitAtomic(a atomicBlock) error {
	switch {
	case !s.begun && !a.part:
		return nil
	case a.part && a.mode:
		return s.DB.Errorf("%w: an Atomic block in another one, in a function of Join, or in a Group that commits together, "+
			"cannot end the outer transaction, and takes no mode", errs.ErrOpenTransaction)
	case a.refuses:
		return s.DB.Errorf("%w, and the Atomic block was told to refuse it", errs.ErrOpenTransaction)
	}
	return s.CannotHave(a.tx)
}

// errJoinRuns is why something cannot be committed in which a function of Join runs.
var errJoinRuns = errors.New("a function of Join had not returned: wait for it before the unit ends")

// endAtomic ends the block, and with it the transaction that is its own.
func (b *block) endAtomic(ctx context.Context, w wish) error {
	if w == commit && b.joins.Load() > 0 {
		b.doom(errJoinRuns)
	}
	if b.kind == owner {
		return b.s.place.endEarly(ctx, b.s, w, b)
	}
	return b.end(ctx, w)
}

// doom lets only a rollback of the block through.
func (b *block) doom(why error) { b.s.doom(why, b.depth) }
