package dbscope

import (
	"cmp"
	"context"
	"fmt"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/link"
)

// Commit commits what is open, database by database in the order of first
// use, and gives the connections back. The scope goes on: the next statement
// takes a connection and begins a new transaction. When anything stands in the
// way of one database, none is committed; when a COMMIT fails, those after it
// roll back; either way the error is a [*CommitError].
//
// It blocks, at most [CommitTimeout] for each database; the cancellation of
// ctx does not stop it. Rows left open are closed first. A statement that
// another goroutine still runs makes the commit fail with [ErrSessionBusy].
func (s *Scope) Commit(ctx context.Context) error {
	if err := s.mayEnd(session.Commit, nil); err != nil {
		return err
	}
	return finish(ctx, session.Commit, goesOn, s)
}

// Rollback undoes what is open in all databases, and gives the connections
// back. The scope goes on. It blocks as [Scope.Commit] does.
func (s *Scope) Rollback(ctx context.Context) error {
	if err := s.mayEnd(session.RollBack, nil); err != nil {
		return err
	}
	err := finish(ctx, session.RollBack, goesOn, s)
	s.doomedBy.Store(nil) // nothing is left of what must not be stored by halves
	return err
}

// End ends the scope, undoing what is open, and gives all connections
// back. After the first call it does nothing. It blocks as [Scope.Commit]
// does, except for a statement that another goroutine still runs: its session
// is undone when that statement returns.
func (s *Scope) End(ctx context.Context) error { return finish(ctx, session.RollBack, isOver, s) }

// future is what becomes of a scope after its transactions have ended.
type future uint8

const (
	goesOn future = iota
	isOver        // before anything is sent, so that nothing can begin behind the commit
)

// finish is the one way the transactions of scopes end together.
func finish(ctx context.Context, w session.Wish, f future, scopes ...*Scope) error {
	var prevented error
	for _, s := range scopes {
		if w == session.Commit && f == isOver && s.joins.Load() > 0 {
			s.doom(session.ErrJoinRuns)
		}
		if w == session.Commit && prevented == nil {
			prevented = s.beforeEnd(ctx, f == isOver)
		}
	}
	marked := false
	var aborted error
	live := scopes[:0]
	for _, s := range scopes {
		s.ending.Lock() // so that of two who end it the later one finds it over, or nothing open
		if over := s.close(f == isOver); over {
			s.ending.Unlock()
		} else {
			live = append(live, s)
		}
		marked = marked || w == session.Commit && s.rollbackOnly.Load() // by nobody from now on, where the scope is over
		aborted = cmp.Or(aborted, s.aborted())
	}
	if len(live) == 0 && f == goesOn && aborted == nil {
		return fmt.Errorf("dbscope: %w", ErrScopeEnded)
	}
	wanted := w
	if marked || prevented != nil || aborted != nil {
		w = session.RollBack
	}
	err := settleAll(ctx, live, w)
	switch {
	case wanted == session.Commit && aborted != nil:
		err = errs.Joined(aborted, err)
	case prevented != nil:
		err = errs.Joined(prevented, err)
	}
	giveUp(ctx, live, err)
	if marked && prevented == nil && aborted == nil {
		return errs.Joined(fmt.Errorf("dbscope: %w", ErrRollbackOnly), err)
	}
	return err
}

// giveUp is for scopes whose sessions were settled.
func giveUp(ctx context.Context, scopes []*Scope, failure error) {
	for _, s := range scopes {
		for sl := range s.slots() {
			sl.dropSpare()
		}
		if w := s.watch.Load(); w != nil {
			if w.Failed(failure); s.ended.Load() {
				w.End(int(s.attempt.Load()), s.isRunAgain)
			}
		}
	}
	runAllAfter(ctx, scopes)
}

// settleAll commits the scopes' sessions, or undoes them, one after the other. The
// caller has locked ending of each scope; it is unlocked once it is decided which
// hooks of the scope are due.
func settleAll(ctx context.Context, scopes []*Scope, w session.Wish) error {
	defer func() {
		for _, s := range scopes {
			s.ending.Unlock()
		}
	}()
	var few [4]*session.Session // so that the usual scope allocates nothing
	taken := seizeAll(ctx, scopes, few[:0])
	all := w == session.Commit
	for _, ss := range taken {
		all = all && ss.Obstacle() == nil
	}
	// Abort marks a scope before it takes its sessions, so that none is missing
	// here where it has not.
	var aborted, doomed error
	for _, s := range scopes {
		aborted, doomed = cmp.Or(aborted, s.aborted()), cmp.Or(doomed, s.doomed())
	}
	all = all && aborted == nil && doomed == nil
	for _, ss := range taken { // before the first COMMIT is sent
		all = all && ss.Cleared(ctx, false)
	}
	var failed *CommitError
	var failures error
	for i, ss := range taken {
		how := w
		if w == session.Commit && !all {
			how = session.Refuse
		}
		r := ss.EndWith(ctx, how, nil)
		slotOf(ss).scope.note(ss, r)
		ss.Ending.Unlock()
		o := outcomeOf(ss, r)
		switch {
		case w != session.Commit:
			failures = errs.Joined(failures, r.Err)
		case o.failed():
			if failed == nil {
				failed = &CommitError{Outcomes: committed(taken[:i])}
			}
			failed.Outcomes, all = append(failed.Outcomes, o), false
		}
	}
	noteOutcomes(scopes, taken, all)
	switch {
	case w == session.Commit && aborted != nil:
		return errs.Joined(aborted, failures)
	case failed != nil:
		return failed
	case w == session.Commit && doomed != nil: // and nothing is open
		return doomed
	case w == session.Commit && !all: // nothing was open in what stands in the way
		return &CommitError{}
	}
	return failures
}

// note keeps what the end of one of its sessions decides about another attempt.
func (s *Scope) note(ss *session.Session, r link.Result) {
	if s.opts.retry != nil && ss.MayWork(r) {
		s.transient.Store(true)
	}
}

// seizeAll takes the sessions of the scopes away from their users. Those that
// somebody else has ended have told what became of them.
func seizeAll(ctx context.Context, scopes []*Scope, taken []*session.Session) []*session.Session {
	for _, s := range scopes {
		for ss := range s.sessions() {
			ss.Ending.Lock()
			if !ss.SeizeOrAbandon(ctx) {
				ss.Ending.Unlock()
				continue
			}
			taken = append(taken, ss)
		}
	}
	return taken
}

// committed lists the outcomes of those that are.
func committed(sessions []*session.Session) []Outcome {
	var all []Outcome
	for _, ss := range sessions {
		if r := ss.Ended(); r.Open && r.Outcome == driver.Committed {
			all = append(all, Outcome{DB: ss.DB.Name, State: driver.Committed})
		}
	}
	return all
}

// noteOutcomes tells each scope what became of it: all of it was committed, or
// nothing, or neither, which is unknown. Where nothing was open, it is what was to
// be. Sessions come scope by scope.
func noteOutcomes(scopes []*Scope, ended []*session.Session, commits bool) {
	for _, s := range scopes {
		outcome, first := driver.RolledBack, true
		if commits {
			outcome = driver.Committed
		}
		for ; len(ended) > 0 && slotOf(ended[0]).scope == s; ended = ended[1:] {
			switch r := ended[0].Ended(); {
			case !r.Open:
			case first:
				outcome, first = r.Outcome, false
			case r.Outcome != outcome:
				outcome = driver.Unknown
			}
		}
		s.decideHooks(outcome)
	}
}
