package session

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// Atomic says how an Atomic block is to begin.
type Atomic struct {
	TX        driver.TxOptions
	Mode      bool // it was given a mode, which a part of something cannot have
	Continues bool // the end of the block is that of the transaction, also of one that is open
	Refuses   bool // an open transaction is an error
	Part      bool // of what the unit has under way, though nothing was done yet
	Awaited   bool // a hook waits for the end of the session
}

// BeginAtomic begins an Atomic block in a session that the caller has taken, and
// leaves it.
func (s *Session) BeginAtomic(ctx context.Context, a Atomic) (*Block, error) {
	a.Part = a.Part || s.innermost() != nil || s.Adopted != nil
	if err := s.admitAtomic(a); err != nil {
		return nil, s.leave(err)
	}
	b := &Block{Session: s, atomic: true, Outer: BlockOf(ctx)}
	if !a.Part && (!s.begun || a.Continues) {
		b.kind = owner
	}
	if b.kind == owner && !s.begun {
		s.WillHave(a.TX)
		b.Alone = !a.Awaited
	}
	return b, s.push(ctx, b)
}

// admitAtomic refuses what the open transaction does not allow.
func (s *Session) admitAtomic(a Atomic) error {
	switch {
	case !s.begun && !a.Part:
		return nil
	case a.Part && a.Mode:
		return s.DB.Errorf("%w: an Atomic block in another one, in a function of Join, or in a Group that commits together, "+
			"cannot end the outer transaction, and takes no mode", errs.ErrOpenTransaction)
	case a.Refuses:
		return s.DB.Errorf("%w, and the Atomic block was told to refuse it", errs.ErrOpenTransaction)
	}
	return s.CannotHave(a.TX)
}

// ErrJoinRuns is why something cannot be committed in which a function of Join runs.
var ErrJoinRuns = errors.New("a function of Join had not returned: wait for it before the unit ends")

// EndAtomic ends the block, and with it the transaction that is its own.
func (b *Block) EndAtomic(ctx context.Context, w Wish) error {
	if w == Commit && b.Joins.Load() > 0 {
		b.Doom(ErrJoinRuns)
	}
	if b.kind == owner {
		return b.Session.Place.EndEarly(ctx, b.Session, w, b, nil)
	}
	return b.end(ctx, w)
}

// Doom lets only a rollback of the block through.
func (b *Block) Doom(why error) { b.Session.Doom(why, b.depth) }
