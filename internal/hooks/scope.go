package hooks

import (
	"context"

	"github.com/dbscope/dbscope/driver"
)

// OfScope are the hooks of a scope and of the blocks that are open in it, which are
// told apart by B, whose zero value is no block.
type OfScope[B comparable] struct {
	Own    Waiting // for the end of the scope
	blocks map[B]*OfBlock
	turns  uint64 // hooks registered so far
}

// OfBlock are those of one block.
type OfBlock struct {
	Session Waiting // for the end of the block's session
	Scope   Waiting // for the end of the scope
}

// Add makes a function the latest hook of a list.
func (s *OfScope[B]) Add(to *Waiting, when Moment, fn func(context.Context) error) {
	s.turns++
	to.add(&Hook{When: when, Fn: fn, Turn: s.turns})
}

// Of returns the hooks of a block, and makes room for them.
func (s *OfScope[B]) Of(b B) *OfBlock {
	l := s.blocks[b]
	if l == nil {
		if s.blocks == nil {
			s.blocks = map[B]*OfBlock{}
		}
		l = &OfBlock{}
		s.blocks[b] = l
	}
	return l
}

// Before returns the list of BeforeCommit hooks whose first one is the next of those
// that wait for a session, or for a block that ends with it, if there is one.
func (s *OfScope[B]) Before(session *Waiting, own B) *List {
	if l := s.blocks[own]; l != nil {
		return Earlier(&session.Before, &l.Session.Before)
	}
	return &session.Before
}

// BlockEnded gives the hooks of a block to the one below it in its session, or to
// those that wait for the session; and to the outer one, or to the scope. Of those of
// an undone block only AfterRollback's are left.
func (s *OfScope[B]) BlockEnded(b, below, outer B, kept bool, session *Waiting) {
	l := s.blocks[b]
	if l == nil {
		return
	}
	delete(s.blocks, b)
	if !kept {
		l.Session.undone()
		l.Scope.undone()
	}
	var none B
	if below != none && !l.Session.Empty() {
		session = &s.Of(below).Session
	}
	session.absorb(&l.Session)
	scope := &s.Own
	if outer != none && !l.Scope.Empty() {
		scope = &s.Of(outer).Scope
	}
	scope.absorb(&l.Scope)
}

// SessionEnded moves those that are due as a session ends, with the blocks that are
// still open in it. Those of BeforeCommit of one that ended without a transaction
// wait for the next: there was nothing that they could have been part of; not those
// of a block that was undone.
func (s *OfScope[B]) SessionEnded(o driver.Outcome, session *Waiting, due *List, in func(B) bool, transaction bool) {
	session.ended(o, due)
	for b, l := range s.blocks {
		if !in(b) {
			continue
		}
		l.Session.ended(o, due)
		if o == driver.Committed {
			session.Before.Absorb(&l.Session.Before)
		}
		l.Session = Waiting{}
	}
	if transaction {
		*session = Waiting{}
	}
}

// Ended moves those that are due as the scope ends, or begins anew.
func (s *OfScope[B]) Ended(o driver.Outcome, due *List) {
	s.Own.ended(o, due)
	s.Own = Waiting{}
	for _, l := range s.blocks {
		l.Scope.ended(o, due)
		l.Scope = Waiting{}
	}
}
