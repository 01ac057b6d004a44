package session

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/state"
)

// Wish is how a transaction is to end.
type Wish uint8

// The wishes.
const (
	RollBack Wish = iota
	Refuse        // roll back what was to be committed, and say why it cannot be
	Commit
)

// WishTo returns the wish to commit, or to roll back.
func WishTo(commits bool) Wish {
	if commits {
		return Commit
	}
	return RollBack
}

// Seize makes the caller, who holds ending, the session's holder, closes rows left
// open and undoes blocks that have expired. It reports false, and changes nothing,
// where a statement is running. Whoever waits for ending waits for others that end
// the session or a block of it, for which they have a limited time.
func (s *Session) Seize(ctx context.Context) bool {
	s.mu.Lock()
	busy := s.holder == state.Statement || s.holder == state.Deserter
	if !busy {
		s.holder.Move(state.Seize)
	}
	s.mu.Unlock()
	if busy {
		return false
	}
	s.closeHeld(ctx)
	s.undoExpired(ctx)
	return true
}

// SeizeOrAbandon is Seize for the end of the unit: a statement that is running
// has to undo the session when it returns. It reports false where somebody else has
// ended or abandoned the session, and so tells what became of it. Else the caller
// has to settle it.
func (s *Session) SeizeOrAbandon(ctx context.Context) bool {
	for !s.Seize(ctx) {
		switch s.abandon() {
		case state.Statement:
			return true
		case state.Deserter:
			return false
		}
	}
	return !s.IsOver()
}

// abandon leaves the session to the statement that runs, if one does, and returns
// who had it.
func (s *Session) abandon() state.Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.holder
	if was == state.Statement {
		s.holder.Move(state.Abandon)
		s.abandoned = true
	}
	return was
}

// Abandon implements [unit.Owner].
func (s *Session) Abandon(ctx context.Context) error {
	s.Ending.Lock()
	defer s.Ending.Unlock()
	if !s.SeizeOrAbandon(ctx) {
		return nil
	}
	return s.EndAs(ctx, RollBack).Err
}

// Obstacle tells why a seized session must not be committed.
func (s *Session) Obstacle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.abandoned: // also where the statement has returned since
		return s.abandonedError()
	case s.condition.Why != nil:
		return s.rolledBack()
	case len(s.blocks) > 0:
		return s.DB.Errorf("%w: a nested transaction was neither committed nor rolled back: %w", errs.ErrRolledBack, errs.ErrOpenTransaction)
	}
	return nil
}

// Cleared reports whether nothing stands in the way of a seized session's commit,
// for which it calls the witness and looks at the connection. With last set a statement
// is still to come, which travels with COMMIT.
func (s *Session) Cleared(ctx context.Context, last bool) bool {
	if s.Obstacle() == nil {
		s.callWitness(ctx, last || s.hasLast())
	}
	if s.Obstacle() == nil {
		s.look(ctx)
	}
	return s.Obstacle() == nil
}

// callWitness breaks the session where it cannot have what a lost COMMIT can be
// settled with.
func (s *Session) callWitness(ctx context.Context, last bool) {
	if !s.begun {
		return
	}
	if err := s.CallWitness(ctx, last); err != nil {
		s.failBeforeCommit(ctx, fmt.Errorf("COMMIT was not sent: %w", err))
	}
}

// look breaks the session where the server has ended it already.
func (s *Session) look(ctx context.Context) {
	if !s.begun {
		return
	}
	if err := s.Look(); err != nil {
		err = fmt.Errorf("the session was ended before COMMIT was sent: %w", err)
		s.Blame(context.WithoutCancel(ctx), driver.Lost, err)
		s.fail(driver.Lost, err)
	}
}

// failBeforeCommit notes that a question before COMMIT failed: only a rollback is
// possible, also where the server would go on.
func (s *Session) failBeforeCommit(ctx context.Context, err error) {
	fate := s.Check(ctx, err)
	s.Blame(context.WithoutCancel(ctx), fate, err)
	s.fail(min(fate, driver.Aborted), err)
}

// EndAs ends a session that the caller has seized, or abandoned: that is undone by
// its statement, which may have happened by now.
func (s *Session) EndAs(ctx context.Context, w Wish) link.Result {
	s.mu.Lock()
	abandoned := s.abandoned
	s.mu.Unlock()
	if s.Adopted != nil {
		return s.settleAdopted(ctx, abandoned)
	}
	why := s.Obstacle()
	r := link.Result{Outcome: driver.RolledBack}
	if !abandoned {
		r = s.end(ctx, w == Commit)
	}
	if w != RollBack && why != nil {
		r = link.Result{Open: true, Outcome: driver.RolledBack, Err: errs.Joined(why, r.Err), Lost: r.Lost}
	}
	if r.Err != nil {
		s.Place.Failed(r.Err)
	}
	s.publish(r)
	s.Place.Ended(s)
	return r
}

func (s *Session) publish(r link.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = r
}

// Ended returns how a session that is over did.
func (s *Session) Ended() link.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

// MayWork reports whether the work of a session that has ended so may succeed
// another time.
func (s *Session) MayWork(r link.Result) bool {
	return r.Lost || s.DB.Transient(r.Err) || s.DB.Transient(s.Broken())
}

// end commits or undoes the transaction of a session that the caller holds, and
// gives the connection on.
func (s *Session) end(ctx context.Context, commits bool) link.Result {
	if s.IsOver() {
		return link.Result{}
	}
	r, reuse := link.Result{Outcome: driver.RolledBack}, true
	switch {
	case s.Adopted != nil:
		r.Open, r.Err = true, s.preventCommit(ctx)
	case s.begun && s.Transactional():
		r, reuse = s.endWatched(ctx, commits)
	case commits:
		r.Outcome, reuse = driver.Committed, s.state() != state.Lost
	}
	left := s.close(r)
	for _, b := range slices.Backward(left) {
		s.Place.BlockEnded(b, false)
	}
	if s.Conn != nil {
		if reuse && s.Shared == nil && s.Adopted == nil && s.Lender == nil && s.Place.Keep(s) {
			s.Conn = nil
		}
		s.Release(reuse)
	}
	if s.Unsettled(r) {
		r = s.Settle(ctx, r)
		s.publish(r)
	}
	s.LeaveHost()
	s.mu.Lock()
	handleOver := s.handleOver
	s.mu.Unlock()
	if handleOver != nil {
		handleOver()
	}
	return r
}

// close lets nobody have the session any more, and returns the blocks that are
// open, which a commit was refused for.
func (s *Session) close(r link.Result) (left []*Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left = s.blocks
	for _, b := range left {
		s.offStack(b)
	}
	s.holder.Move(state.End)
	s.blocks, s.result = nil, r
	return left
}

// endTransaction is the one place that sends COMMIT, or ROLLBACK, and says whether
// the connection can be used again.
func (s *Session) endTransaction(ctx context.Context, commits bool) (r link.Result, reuse bool) {
	if s.endPipelined(commits) {
		return link.Result{Open: true, Outcome: outcome(commits)}, true
	}
	bounded := s.bounded(ctx)
	defer bounded.Cancel()
	var prevented error
	if commits {
		prevented = s.runLast(bounded, s.takeLast())
	}
	if commits {
		if prevented == nil {
			r, prevented = s.SendCommit(bounded)
		}
		if prevented == nil {
			return r, r.Outcome != driver.Unknown && !r.Lost
		}
		s.failBeforeCommit(bounded, prevented)
	}
	err := s.rollBack(bounded)
	r = link.Result{Open: true, Outcome: driver.RolledBack, Err: errs.Joined(prevented, err)}
	return r, err == nil && s.state() != state.Lost
}

// endPipelined sends COMMIT or ROLLBACK without waiting for the answer, and reports
// whether it has, where nothing depends on that. A COMMIT that can be refused, or lost
// with something in it, is waited for. So is any end after a cancelled statement: the
// cancellation, on its way beside the connection, would hit the next unit's.
func (s *Session) endPipelined(commits bool) bool {
	p, can := s.Conn.(driver.PipelinedEnder)
	if !can || s.cancelled || s.Place.AwaitsEnd(commits) {
		return false
	}
	if commits && (!s.TX.ReadOnly || s.hasLast() || s.TX.Isolation >= sql.LevelSerializable && !s.TX.Deferrable) {
		return false
	}
	return !s.gone() && p.EndPipelined(commits)
}

func outcome(commits bool) driver.Outcome {
	if commits {
		return driver.Committed
	}
	return driver.RolledBack
}

// rollBack sends ROLLBACK where there is something to undo.
func (s *Session) rollBack(ctx context.Context) error {
	if s.gone() {
		return nil
	}
	if err := s.Conn.Rollback(ctx); err != nil {
		return s.DB.Errorf("ROLLBACK failed, the connection was closed instead: %w", err)
	}
	return nil
}

// closeHeld closes rows that somebody has left open at the end of their
// transaction, however long they are: it takes no longer than an end may.
func (s *Session) closeHeld(ctx context.Context) {
	rows := s.rows
	if s.rows = nil; rows == nil {
		return
	}
	s.cancelled = true // perhaps: nobody here knows their context
	bounded := ending.New(ctx, s.Place.Closing(s.Timeout))
	defer bounded.Cancel()
	err := rows.Close(bounded)
	s.Watch.EndLeftOpen(err)
	if err != nil {
		// Even where the server goes on: what the rows did is not certain.
		s.fail(s.Check(ctx, err), err)
		s.DoomHere(fmt.Errorf("closing rows left open: %w", err))
	}
}

// TakeUnused takes the connection of a session that has not begun, which is that
// of its predecessor.
func (s *Session) TakeUnused() (conn driver.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == state.Nobody && !s.begun {
		conn, s.Conn = s.Conn, nil
	}
	return conn
}
