package session

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope/internal/errs"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/state"
)

// ownerEnd is what the owner of a transaction has said of its end.
type ownerEnd uint8

const (
	ownerGoesOn ownerEnd = iota
	ownerRolledBack
	ownerCommitted
	ownerUnclear // it says so of one that could not be kept from being committed
)

// Adopt makes a transaction that other code has begun that of a new session.
func (s *Session) Adopt(ctx context.Context, conn driver.AdoptedConn) error {
	s.Conn, s.Adopted, s.begun = conn, conn, true
	ctx = s.Watch.Begin(ctx, false)
	s.Live.Store(true)
	err := s.Impose(ctx)
	if err != nil {
		s.owner = ownerRolledBack // it is none of the scope's
	}
	return err
}

// OwnerEnded notes that the owner has ended the transaction, and whether the scope has
// been committed with it. broken is why only a rollback was possible; over is the
// answer where the scope was ended before.
func (s *Session) OwnerEnded(committed bool) (commits bool, broken, over error) {
	broken = s.Broken() // later it would be what nobody could do any more
	s.Adopted.Left()
	s.mu.Lock()
	defer s.mu.Unlock()
	isOver := s.holder == state.Over
	switch {
	case !committed:
		s.owner = ownerRolledBack
	case broken == nil && !isOver:
		s.owner = ownerCommitted
	case s.free != nil:
		s.owner, broken = ownerUnclear, nil
	default:
		s.owner = ownerRolledBack
	}
	switch {
	case isOver && s.owner == ownerUnclear:
		over = s.DB.Errorf("%w: the scope was ended before, and %w", errs.ErrCommitUnknown, s.free)
	case isOver && committed:
		over = s.DB.Errorf("%w: the scope was ended before: %w", errs.ErrRolledBack, errs.ErrScopeEnded)
	}
	return s.owner == ownerCommitted, broken, over
}

func (s *Session) ownerSays() ownerEnd {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner
}

// settleAdopted is EndAs for a session whose transaction is other code's.
func (s *Session) settleAdopted(ctx context.Context, abandoned bool) link.Result {
	why := s.Obstacle()
	r := link.Result{Open: true, Outcome: driver.RolledBack}
	var committed error // by a statement, before the owner did anything
	if !abandoned {
		committed = s.EndedByStatement()
		r.Err = s.end(ctx, false).Err
	}
	says := s.ownerSays()
	if says == ownerCommitted && why == nil {
		r.Outcome = driver.Committed
	}
	switch {
	case committed != nil:
		r.Outcome, r.Err = driver.Unknown, s.DB.Errorf("%w: %w", errs.ErrCommitUnknown, committed)
	case says == ownerUnclear:
		r.Outcome, r.Err = driver.Unknown, s.DB.Errorf("%w: only a rollback was possible, after: %w; but %w", errs.ErrCommitUnknown, s.why(), s.freeError())
	case says == ownerCommitted && why != nil:
		r.Outcome = driver.Unknown
		r.Err = s.DB.Errorf("%w: a statement or a nested transaction was under way when the owner of the transaction committed it", errs.ErrCommitUnknown)
	}
	if says == ownerCommitted {
		s.CommitAdopted()
	}
	s.publish(r)
	s.Place.Ended(s)
	return r
}

func (s *Session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.condition.Why
}

func (s *Session) freeError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free
}

// leaveToOwner keeps a transaction that is other code's, and that nothing can make
// sound, from being committed. One that the server has aborted is such a one where no
// block of the scope is open: a savepoint that only its owner knows must not make half
// of a unit durable. So is one that a statement has committed: what the owner did next
// would be stored at once.
func (s *Session) leaveToOwner() error {
	committed := s.EndedByStatement()
	s.mu.Lock()
	if len(s.blocks) == 0 {
		s.condition.GiveUp()
	}
	final := s.condition.Final() || committed != nil
	s.mu.Unlock()
	if !final {
		return nil
	}
	return s.preventCommit(context.Background())
}

// preventCommit makes a transaction that is other code's, and goes on, unable to
// commit.
func (s *Session) preventCommit(ctx context.Context) error {
	if s.ownerSays() != ownerGoesOn {
		return nil
	}
	bounded := ending.New(ctx, s.Timeout)
	defer bounded.Cancel()
	err := s.Adopted.PreventCommit(bounded)
	if err != nil {
		err = fmt.Errorf("the transaction, which is not dbscope's, could not be kept from being committed: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = err
	return err
}
