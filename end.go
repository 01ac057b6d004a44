package dbscope

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/settle"
	"github.com/dbscope/dbscope/internal/state"
)

// wish is how a transaction is to end.
type wish uint8

const (
	rollBack wish = iota
	refuse        // roll back what was to be committed, and say why it cannot be
	commit
)

func wishTo(commits bool) wish {
	if commits {
		return commit
	}
	return rollBack
}

// seize makes the caller, who holds ending, the session's holder, closes rows left
// open and undoes blocks that have expired. It reports false, and changes nothing,
// where a statement is running. Whoever waits for ending waits for others that end
// the session or a block of it, for which they have a limited time.
func (s *session) seize(ctx context.Context) bool {
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

// seizeOrAbandon is seize for the end of the unit: a statement that is running
// has to undo the session when it returns. It reports false where somebody else has
// ended or abandoned the session, and so tells what became of it. Else the caller
// has to settle it.
func (s *session) seizeOrAbandon(ctx context.Context) bool {
	for !s.seize(ctx) {
		switch s.abandon() {
		case state.Statement:
			return true
		case state.Deserter:
			return false
		}
	}
	return !s.isOver()
}

// abandon leaves the session to the statement that runs, if one does, and returns
// who had it.
func (s *session) abandon() state.Holder {
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
func (s *session) Abandon(ctx context.Context) error {
	s.ending.Lock()
	defer s.ending.Unlock()
	if !s.seizeOrAbandon(ctx) {
		return nil
	}
	return s.settle(ctx, rollBack).err
}

// obstacle tells why a seized session must not be committed.
func (s *session) obstacle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.abandoned: // also where the statement has returned since
		return s.abandonedError()
	case s.condition.Why != nil:
		return s.rolledBack()
	case len(s.blocks) > 0:
		return s.DB.Errorf("%w: a nested transaction was neither committed nor rolled back: %w", ErrRolledBack, ErrOpenTransaction)
	}
	return nil
}

// cleared reports whether nothing stands in the way of a seized session's commit,
// for which it calls the witness and looks at the connection.
func (s *session) cleared(ctx context.Context) bool {
	if s.obstacle() == nil {
		s.callWitness(ctx)
	}
	if s.obstacle() == nil {
		s.look(ctx)
	}
	return s.obstacle() == nil
}

// callWitness asks for what a lost COMMIT can be settled with, and breaks the session
// where it cannot have that. There is nothing to settle where a statement has
// committed the transaction: its Commit will say so.
func (s *session) callWitness(ctx context.Context) {
	if s.DB.Settler == nil || s.place.Context() == nil || s.TX.ReadOnly || !s.begun || s.EndedByStatement() {
		return
	}
	bounded := ending.New(ctx, s.Timeout)
	defer bounded.Cancel()
	witness, err := s.DB.Settler.Witness(bounded, s.Conn)
	if err != nil {
		err = fmt.Errorf("COMMIT was not sent: %w", err)
		fate := s.Check(ctx, err)
		s.Blame(context.WithoutCancel(ctx), fate, err)
		s.fail(min(fate, driver.Aborted), err)
	}
	s.witness = witness
}

// look breaks the session where the server has ended it already: COMMIT is then
// sent to no database of the scope. What a statement has committed before is not
// undone by that: there the connection's Commit tells.
func (s *session) look(ctx context.Context) {
	l, can := s.Conn.(driver.Looker)
	if !can || !s.begun || s.EndedByStatement() {
		return
	}
	if err := l.Look(); err != nil {
		err = fmt.Errorf("the session was ended before COMMIT was sent: %w", err)
		s.Blame(context.WithoutCancel(ctx), driver.Lost, err)
		s.fail(driver.Lost, err)
	}
}

// settle ends a session that the caller has seized, or abandoned: that is undone by
// its statement, which may have happened by now.
func (s *session) settle(ctx context.Context, w wish) result {
	s.mu.Lock()
	abandoned := s.abandoned
	s.mu.Unlock()
	why := s.obstacle()
	r := result{outcome: driver.RolledBack}
	if !abandoned {
		r = s.end(ctx, w == commit)
	}
	if w != rollBack && why != nil {
		r = result{open: true, outcome: driver.RolledBack, err: errs.Joined(why, r.err), lost: r.lost}
	}
	s.publish(r)
	s.place.ended(s)
	return r
}

func (s *session) publish(r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = r
}

// ended returns how a session that is over did.
func (s *session) ended() result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

// mayWork reports whether the work of a session that has ended so may succeed
// another time.
func (s *session) mayWork(r result) bool {
	return r.lost || s.DB.Transient(r.err) || s.DB.Transient(s.brokenError())
}

// end commits or undoes the transaction of a session that the caller holds, and
// gives the connection on.
func (s *session) end(ctx context.Context, commits bool) result {
	if s.isOver() {
		return result{}
	}
	r, reuse := result{outcome: driver.RolledBack}, true
	switch {
	case s.begun && s.Transactional():
		r, reuse = s.endTransaction(ctx, commits)
	case commits:
		r.outcome = driver.Committed
	}
	left := s.close(r)
	for _, b := range slices.Backward(left) {
		s.place.blockEnded(b, false)
	}
	if s.Conn != nil {
		if reuse && s.Shared == nil && s.place.keep(s) {
			s.Conn = nil
		}
		s.Release(reuse)
	}
	if s.witness != nil && r.open && r.outcome == driver.Unknown && !errors.Is(r.err, driver.ErrUnconfirmed) {
		r = s.settleUnknown(ctx, r)
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
func (s *session) close(r result) (left []*block) {
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
func (s *session) endTransaction(ctx context.Context, commits bool) (r result, reuse bool) {
	bounded := ending.New(ctx, s.Timeout)
	defer bounded.Cancel()
	var before []string
	var prevented error
	if commits {
		before, prevented = s.askBefore(bounded)
	}
	if prevented != nil {
		fate := s.Check(ctx, prevented)
		s.Blame(context.WithoutCancel(ctx), fate, prevented)
		s.fail(min(fate, driver.Aborted), prevented)
	}
	if commits && prevented == nil {
		return s.sendCommit(bounded, before)
	}
	err := s.rollBack(bounded)
	r = result{open: true, outcome: driver.RolledBack, err: errs.Joined(prevented, err)}
	return r, err == nil && s.state() != state.Lost
}

// askBefore asks what has to be asked before COMMIT, where that cannot do it
// itself.
func (s *session) askBefore(ctx context.Context) ([]string, error) {
	if _, ok := s.Conn.(driver.Positioner); ok || s.Writes() == nil {
		return nil, nil
	}
	before, _ := s.DB.Pools.Router().Queries()
	row, err := s.Conn.Row(ctx, before)
	if err != nil {
		return nil, s.DB.Errorf("%w: COMMIT was not sent: %w", ErrRolledBack, err)
	}
	return row, nil
}

// sendCommit commits. A read-only transaction whose COMMIT was not answered has
// stored nothing. It counts as rolled back and not as committed: on some isolation
// levels only the answer tells that what was read can be believed.
func (s *session) sendCommit(ctx context.Context, before []string) (r result, reuse bool) {
	r.open = true
	var err error
	if w := s.Writes(); w != nil {
		r.outcome, err = w.Commit(ctx, s.Conn, s.DB.Pools.Router(), before)
	} else {
		r.outcome, err = s.Conn.Commit(ctx)
	}
	switch r.outcome {
	case driver.Committed:
		return r, true
	case driver.RolledBack:
		r.err = s.DB.Errorf("%w: %w", ErrRolledBack, err)
		return r, true
	}
	s.Blame(context.Background(), driver.Lost, err)
	if s.TX.ReadOnly && !errors.Is(err, driver.ErrEnded) {
		r.outcome, r.lost = driver.RolledBack, true
		r.err = s.DB.Errorf("%w: the answer to COMMIT was lost, but the transaction was read-only: %w", ErrRolledBack, err)
		return r, false
	}
	r.err = s.DB.Errorf("%w: %w", ErrCommitUnknown, err)
	return r, false
}

// rollBack sends ROLLBACK where there is something to undo.
func (s *session) rollBack(ctx context.Context) error {
	if s.gone() {
		return nil
	}
	if err := s.Conn.Rollback(ctx); err != nil {
		return s.DB.Errorf("ROLLBACK failed, the connection was closed instead: %w", err)
	}
	return nil
}

// settleUnknown asks what became of a COMMIT whose answer was lost, with the
// connection.
func (s *session) settleUnknown(ctx context.Context, r result) result {
	bounded := ending.New(ctx, s.Timeout)
	defer bounded.Cancel()
	outcome, err := settle.Ask(bounded, s.DB.Settler, s.writingPool, s.witness)
	switch {
	case err != nil:
		r.err = errs.Joined(r.err, s.DB.Errorf("it could not be settled: %w", err))
	case outcome == driver.Committed:
		return result{open: true, outcome: outcome}
	case outcome == driver.RolledBack:
		// Not wrapped as unknown any more.
		err := s.DB.Errorf("%w: the answer to COMMIT was lost, and it was not done: %v", ErrRolledBack, r.err)
		return result{open: true, outcome: outcome, err: err, lost: true}
	}
	return r
}

// writingPool is where to ask: a host that writes no more knows less.
func (s *session) writingPool(ctx context.Context) (driver.Engine, error) {
	if s.DB.Pools.Router() != nil {
		return s.DB.Pools.Engine(ctx)
	}
	return s.Engine, nil
}

// takeUnused takes the connection of a session that has not begun, which is that
// of its predecessor.
func (s *session) takeUnused() (conn driver.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == state.Nobody && !s.begun {
		conn, s.Conn = s.Conn, nil
	}
	return conn
}

// closeRows closes rows left open, so that statements can run.
func (s *session) closeRows(ctx context.Context) {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.seize(ctx) && !s.isOver() {
		_ = s.leave(nil)
	}
}
