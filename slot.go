package dbscope

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
)

// session returns the DB's open session, or a new one that is not open yet.
func (s *Scope) session(db *link.Database) (*session, error) {
	for sl := range s.slots() {
		if sl.db == db {
			if ss := sl.current.Load(); ss != nil {
				return ss, nil
			}
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return nil, db.Errorf("%w", s.endedError())
	}
	sl := s.slot(db)
	ss := sl.current.Load()
	if ss == nil {
		ss = newSession(db, sl, s.opts.tx, s.opts.endTimeout)
		ss.Conn, ss.Engine, sl.spare = sl.spare, sl.engine, nil
		if why := s.doomedBy.Load(); why != nil {
			ss.doom(*why, 0)
		}
		sl.current.Store(ss)
	}
	return ss, nil
}

// slot returns the DB's place, and makes it. The caller holds mu.
func (s *Scope) slot(db *link.Database) *slot {
	last := &s.first
	for sl := last.Load(); sl != nil; sl = last.Load() {
		if sl.db == db {
			return sl
		}
		last = &sl.next
	}
	sl := &slot{db: db, scope: s}
	if db.BeforeCommit != nil {
		s.hooked.Store(true)
	}
	last.Store(sl)
	return sl
}

// slotOf returns the place of a session that is in a unit.
func slotOf(s *session) *slot { return s.place.(*slot) }

func (sl *slot) Context() context.Context             { return sl.scope.ctx }
func (sl *slot) Sandbox(context.Context) unit.Sandbox { return sl.scope.box }
func (sl *slot) Seen() *unit.Unit                     { return &sl.scope.unit }
func (sl *slot) Waits() pools.Unit                    { return (*waitingUnit)(sl.scope) }
func (sl *slot) admitted()                            { sl.uses.Add(1) }
func (sl *slot) hasBlocks() bool                      { return sl.blocks.Load() }
func (sl *slot) Owns(ctx context.Context) bool        { return scopeOf(ctx) == sl.scope }

func (sl *slot) Took(from *pools.Host) {
	sl.pool.Store(from)
	sl.holding.Add(1)
	sl.scope.unit.Took(1)
}

func (sl *slot) Gave() {
	sl.holding.Add(-1)
	sl.scope.unit.Took(-1)
}

func (sl *slot) unitEnded() error {
	if !sl.scope.ended.Load() {
		return nil
	}
	return sl.scope.endedError()
}

func (sl *slot) MayWaitForItself() pools.Limit { return sl.scope.mayWaitForItself(sl.db, sl) }

// failed implements [place].
func (sl *slot) failed(err error) {
	if sl.scope.opts.retry != nil && sl.db.Transient(err) {
		sl.scope.sawTransient.Store(true)
	}
}

// blockEnded implements [place].
func (sl *slot) blockEnded(b *block, kept bool) { sl.scope.blockEnded(sl, b, kept) }

// ended implements [place].
func (sl *slot) ended(ss *session) {
	r := ss.ended()
	if r.Open && r.Outcome != driver.RolledBack {
		sl.scope.committed.Store(true) // or perhaps
	}
	sl.scope.sessionEnded(sl, ss, r.Outcome)
	sl.current.CompareAndSwap(ss, nil)
}

// keep implements [place]. There is no next transaction where the scope is over; but
// where giving the connection back takes time, that can wait for the commits of the
// scope's other databases: who ends the scope drops what is kept after them.
func (sl *slot) keep(ss *session) bool {
	s := sl.scope
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() && !sl.db.Resets || s.streams.Load() || sl.spare != nil || sl.current.Load() != ss {
		return false
	}
	sl.spare, sl.engine = ss.Conn, ss.Engine
	return true
}

// dropSpare releases the connection that is kept for the next transaction, also
// where that has its session already.
func (sl *slot) dropSpare() {
	sl.scope.mu.Lock()
	conn := sl.spare
	sl.spare = nil
	sl.scope.mu.Unlock()
	sl.giveBack(conn)
	if next := sl.current.Load(); next != nil {
		sl.giveBack(next.takeUnused())
	}
}

func (sl *slot) giveBack(conn driver.Conn) {
	if conn != nil {
		sl.Gave()
		sl.db.GiveBack(conn, true)
	}
}

// endEarly implements [place]. Where the call is refused, all stays as it was.
func (sl *slot) endEarly(ctx context.Context, ss *session, asked wish, own *block) error {
	if err := sl.mayEndEarly(ss, asked, own); err != nil {
		return err
	}
	w := asked
	var prevented error
	if asked == commit {
		prevented = sl.scope.beforeSession(ctx, sl, ss, own)
		w = wishTo(prevented == nil && !sl.scope.rollbackOnly.Load())
	}
	r, err := sl.endSeized(ctx, ss, asked, w, own)
	if err != nil {
		return err
	}
	sl.afterEarly(ctx, own, r.Outcome)
	o := outcomeOf(ss, r)
	switch {
	case prevented != nil:
		return errs.Joined(prevented, r.Err)
	case asked != w:
		return errs.Joined(sl.db.Errorf("%w", ErrRollbackOnly), r.Err)
	case asked == commit && o.failed():
		return &CommitError{Outcomes: []Outcome{o}}
	}
	return r.Err
}

// mayEndEarly refuses an end that must not be, before hooks run. Whether a
// statement runs is asked again after them.
func (sl *slot) mayEndEarly(ss *session, asked wish, own *block) error {
	return ss.mayEnd(own, func() error { return sl.scope.mayEnd(asked, sl.db) })
}

// endSeized ends the transaction alone with the session.
func (sl *slot) endSeized(ctx context.Context, ss *session, asked, w wish, own *block) (r link.Result, err error) {
	ss.ending.Lock()
	defer ss.ending.Unlock()
	if !ss.seize(ctx) {
		if own != nil { // its work is neither wanted nor undone
			ss.doomHere(sl.db.Errorf("ending an Atomic block: %w", ErrSessionBusy))
			own.pop(false)
		}
		return r, sl.db.Errorf("%w", ErrSessionBusy)
	}
	if ss.isOver() {
		return r, sl.endedByAnother(ss, asked)
	}
	if own != nil {
		ss.popOwner(own)
	}
	if w == commit && !ss.cleared(ctx) {
		w = refuse
	}
	return ss.settle(ctx, w), nil
}

// endedByAnother is the answer to who comes too late to commit: a hook of the
// commit, or another goroutine, has ended the transaction.
func (sl *slot) endedByAnother(ss *session, asked wish) error {
	switch o := ss.ended().Outcome; {
	case asked == commit && o == driver.RolledBack && sl.scope.aborted() != nil:
		return sl.scope.aborted()
	case asked != commit || o == driver.Committed:
		return nil
	case o == driver.Unknown:
		return sl.db.Errorf("%w", ErrCommitUnknown)
	}
	return sl.db.Errorf("%w meanwhile: %w", ErrRolledBack, sql.ErrTxDone)
}

// afterEarly runs the hooks of the session, which is over.
func (sl *slot) afterEarly(ctx context.Context, own *block, o driver.Outcome) {
	s := sl.scope
	if !s.hooked.Load() {
		return
	}
	if own != nil {
		s.blockEnded(sl, own, o == driver.Committed)
	}
	due := s.takeDue(sl)
	if due != nil {
		sl.dropSpare() // a hook may need it
	}
	s.runAfter(s.inside(ctx), due)
}

// endIdle ends the transaction early if nothing is open in it, and else leaves
// it as it is.
func (sl *slot) endIdle(ctx context.Context, ss *session, asked wish) error {
	if !ss.idleWithTransaction() {
		return nil
	}
	var prevented error
	w := asked
	if asked == commit { // hooks run statements, so they come before the session is seized
		if prevented = sl.scope.beforeSession(ctx, sl, ss, nil); prevented != nil {
			w = refuse
		}
	}
	r, ended := ss.settleIdle(ctx, w)
	if ended {
		sl.afterEarly(ctx, nil, r.Outcome)
	}
	o := outcomeOf(ss, r)
	switch {
	case prevented != nil:
		return errs.Joined(prevented, r.Err)
	case asked == commit && o.failed():
		return &CommitError{Outcomes: []Outcome{o}}
	case r.Err != nil:
		return fmt.Errorf("dbscope: ending a read-only transaction: %w", r.Err)
	}
	return nil
}

// outcomeOf is the result for a [CommitError].
func outcomeOf(ss *session, r link.Result) Outcome {
	if !r.Open {
		return Outcome{}
	}
	return Outcome{DB: ss.DB.Name, State: r.Outcome, Err: r.Err}
}
