package dbscope

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/internal/watch"
)

// Session returns the DB's open session, or a new one that is not open yet.
func (s *Scope) session(db *link.Database) (*session.Session, error) {
	known := false
	for sl := range s.slots() {
		if known = sl.db == db; known {
			if ss := sl.current.Load(); ss != nil {
				return ss, nil
			}
			break
		}
	}
	var w *watch.DB
	if !known && !s.ended.Load() && (len(db.Observers) > 0 || s.watch.Load() != nil) {
		w = s.watched().DB(db.Name, db.Observers) // not under mu, which observers may come to lock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return nil, db.Errorf("%w", s.endedError())
	}
	sl := s.slot(db, w)
	ss := sl.current.Load()
	if ss == nil {
		ss = session.New(db, sl, s.opts.tx, s.opts.endTimeout)
		ss.Conn, ss.Engine, sl.spare = sl.spare, sl.engine, nil
		if why := s.doomedBy.Load(); why != nil {
			ss.Doom(*why, 0)
		}
		sl.current.Store(ss)
	}
	return ss, nil
}

// slot returns the DB's place, and makes it. The caller holds mu.
func (s *Scope) slot(db *link.Database, w *watch.DB) *slot {
	last := &s.first
	for sl := last.Load(); sl != nil; sl = last.Load() {
		if sl.db == db {
			return sl
		}
		last = &sl.next
	}
	sl := &slot{db: db, scope: s, watch: w}
	if db.BeforeCommit != nil {
		s.hooked.Store(true)
	}
	last.Store(sl)
	return sl
}

// slotOf returns the place of a session that is in a unit.
func slotOf(s *session.Session) *slot { return s.Place.(*slot) }

func (sl *slot) Context() context.Context             { return sl.scope.ctx }
func (sl *slot) Sandbox(context.Context) unit.Sandbox { return sl.scope.box }
func (sl *slot) Seen() *unit.Unit                     { return &sl.scope.unit }
func (sl *slot) Waits() pools.Unit                    { return (*waitingUnit)(sl.scope) }
func (sl *slot) Admitted()                            { sl.uses.Add(1) }
func (sl *slot) HasBlocks() bool                      { return sl.blocks.Load() }
func (sl *slot) Owns(ctx context.Context) bool        { return scopeOf(ctx) == sl.scope }

func (sl *slot) Watch() *watch.DB { return sl.watch }

func (sl *slot) Took(ctx context.Context, from *pools.Host) {
	sl.pool.Store(from)
	sl.holding.Add(1)
	sl.scope.unit.Took(1)
	if sl.watch != nil {
		now, most := sl.scope.unit.Budget()
		sl.watch.Took(ctx, from.Name(), now, most)
	}
}

func (sl *slot) Gave() {
	sl.watch.Gave()
	sl.holding.Add(-1)
	sl.scope.unit.Took(-1)
}

func (sl *slot) UnitEnded() error {
	if !sl.scope.ended.Load() {
		return nil
	}
	return sl.scope.endedError()
}

func (sl *slot) MayWaitForItself() pools.Limit { return sl.scope.mayWaitForItself(sl.db, sl) }

// AwaitsEnd implements [session.Place].
func (sl *slot) AwaitsEnd(commits bool) bool {
	s := sl.scope
	switch {
	case !s.ended.Load() || s.opts.awaitsEnd || s.together() || s.ctx.Err() != nil:
		return true
	case commits:
		return false
	}
	return s.opts.awaitsRollback || s.opts.retry != nil || s.hooked.Load()
}

// Failed implements [session.Place].
func (sl *slot) Failed(err error) {
	if sl.scope.opts.retry != nil && sl.db.Transient(err) {
		sl.scope.sawTransient.Store(true)
	}
}

// BlockEnded implements [session.Place].
func (sl *slot) BlockEnded(b *session.Block, kept bool) { sl.scope.blockEnded(sl, b, kept) }

// Ended implements [session.Place].
func (sl *slot) Ended(ss *session.Session) {
	r := ss.Ended()
	if r.Open && r.Outcome != driver.RolledBack {
		sl.scope.committed.Store(true) // or perhaps
	}
	ss.TellOver()
	sl.scope.sessionEnded(sl, ss, r.Outcome)
	sl.current.CompareAndSwap(ss, nil)
}

// Keep implements [session.Place]. There is no next transaction where the scope is over; but
// where giving the connection back takes time, that can wait for the commits of the
// scope's other databases: who ends the scope drops what is kept after them.
func (sl *slot) Keep(ss *session.Session) bool {
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
		sl.giveBack(next.TakeUnused())
	}
}

func (sl *slot) giveBack(conn driver.Conn) {
	if conn != nil {
		sl.Gave()
		sl.db.GiveBack(conn, true)
	}
}

// EndEarly implements [session.Place]. Where the call is refused, all stays as it was.
func (sl *slot) EndEarly(
	ctx context.Context, ss *session.Session, asked session.Wish, own *session.Block, last session.Last,
) error {
	if err := sl.mayEndEarly(ss, asked, own); err != nil {
		return err
	}
	if last != nil {
		if err := ss.OpenForLast(ctx); err != nil && ss.Broken() == nil {
			return err
		}
	}
	w := asked
	var prevented error
	if asked == session.Commit {
		prevented = sl.scope.beforeSession(ctx, sl, ss, own)
		w = session.WishTo(prevented == nil && !sl.scope.rollbackOnly.Load())
	}
	r, err := sl.endSeized(ctx, ss, asked, w, own, last)
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
	case asked == session.Commit && o.failed():
		return &CommitError{Outcomes: []Outcome{o}}
	}
	return r.Err
}

// mayEndEarly refuses an end that must not be, before hooks run. Whether a
// statement runs is asked again after them.
func (sl *slot) mayEndEarly(ss *session.Session, asked session.Wish, own *session.Block) error {
	return ss.MayEnd(own, func() error { return sl.scope.mayEnd(asked, sl.db) })
}

// endSeized ends the transaction alone with the session.
func (sl *slot) endSeized(
	ctx context.Context, ss *session.Session, asked, w session.Wish, own *session.Block, last session.Last,
) (r link.Result, err error) {
	ss.Ending.Lock()
	defer ss.Ending.Unlock()
	if !ss.Seize(ctx) {
		if own != nil { // its work is neither wanted nor undone
			ss.DoomHere(sl.db.Errorf("ending an Atomic block: %w", ErrSessionBusy))
			own.Pop(false)
		}
		return r, sl.db.Errorf("%w", ErrSessionBusy)
	}
	switch over := ss.IsOver(); {
	case over && last != nil:
		return r, sl.db.Errorf("the statement was not sent, since its transaction was ended meanwhile: %w", sql.ErrTxDone)
	case over:
		return r, sl.endedByAnother(ss, asked)
	}
	if own != nil {
		ss.PopOwner(own)
	}
	if w == session.Commit && !ss.Cleared(ctx, last != nil) {
		w = session.Refuse
	}
	return ss.EndWith(ctx, w, last), nil
}

// endedByAnother is the answer to who comes too late to commit: a hook of the
// commit, or another goroutine, has ended the transaction.
func (sl *slot) endedByAnother(ss *session.Session, asked session.Wish) error {
	switch o := ss.Ended().Outcome; {
	case asked == session.Commit && o == driver.RolledBack && sl.scope.aborted() != nil:
		return sl.scope.aborted()
	case asked != session.Commit || o == driver.Committed:
		return nil
	case o == driver.Unknown:
		return sl.db.Errorf("%w", ErrCommitUnknown)
	}
	return sl.db.Errorf("%w meanwhile: %w", ErrRolledBack, sql.ErrTxDone)
}

// afterEarly runs the hooks of the session, which is over.
func (sl *slot) afterEarly(ctx context.Context, own *session.Block, o driver.Outcome) {
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
func (sl *slot) endIdle(ctx context.Context, ss *session.Session, asked session.Wish) error {
	if !ss.IdleWithTransaction() {
		return nil
	}
	var prevented error
	w := asked
	if asked == session.Commit { // hooks run statements, so they come before the session is seized
		if prevented = sl.scope.beforeSession(ctx, sl, ss, nil); prevented != nil {
			w = session.Refuse
		}
	}
	r, ended := ss.EndIdleAs(ctx, w)
	if ended {
		sl.afterEarly(ctx, nil, r.Outcome)
	}
	o := outcomeOf(ss, r)
	switch {
	case prevented != nil:
		return errs.Joined(prevented, r.Err)
	case asked == session.Commit && o.failed():
		return &CommitError{Outcomes: []Outcome{o}}
	case r.Err != nil:
		return fmt.Errorf("dbscope: ending a read-only transaction: %w", r.Err)
	}
	return nil
}

// outcomeOf is the result for a [CommitError].
func outcomeOf(ss *session.Session, r link.Result) Outcome {
	if !r.Open {
		return Outcome{}
	}
	return Outcome{DB: ss.DB.Name, State: r.Outcome, Err: r.Err}
}
