package session

import (
	"context"
	"errors"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/link"
)

// Last is the statement that a transaction ends with.
type Last func(ctx context.Context, conn driver.Conn) error

// CommitWith implements [driver.Session].
func (s *Session) CommitWith(ctx context.Context, last func(context.Context, driver.Conn) error) error {
	if s.Place.Context() == nil {
		return s.DB.Errorf("%w", errs.ErrNoScope)
	}
	return s.Place.EndEarly(ctx, s, Commit, nil, last)
}

// CommitWith implements [driver.Session].
func (b *Block) CommitWith(context.Context, func(context.Context, driver.Conn) error) error {
	return b.Session.DB.Errorf("%w: end the nested transaction first", errs.ErrOpenTransaction)
}

// CommitBehind implements [driver.Session].
func (s *Session) CommitBehind(last func(context.Context, driver.Conn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.OverError(); err != nil {
		return err
	}
	switch {
	case s.Adopted != nil:
		return s.DB.Errorf("%w: it was begun by other code, whose commit nobody here sees come", errs.ErrOpenTransaction)
	case !s.begun:
		return s.DB.Errorf("no transaction is open, whose commit a statement could go with")
	}
	s.behind = append(s.behind, last)
	return nil
}

// CommitBehind implements [driver.Session].
func (b *Block) CommitBehind(func(context.Context, driver.Conn) error) error {
	return b.Session.DB.Errorf("%w: end the nested transaction first", errs.ErrOpenTransaction)
}

// hasLast reports whether statements are to run before COMMIT.
func (s *Session) hasLast() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.behind) > 0
}

// takeLast takes what is to run before COMMIT, that of CommitWith at the end.
func (s *Session) takeLast() []Last {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.behind
	if s.behind = nil; s.last != nil {
		all = append(all, s.last)
	}
	return all
}

// OpenForLast opens the session as the statement that is to be its last would. Where it
// is open, or was to be and could not, the commit tells what is wrong with it.
func (s *Session) OpenForLast(ctx context.Context) error {
	s.mu.Lock()
	begun := s.begun || s.condition.Why != nil
	s.mu.Unlock()
	switch {
	case begun && ctx.Err() != nil:
		return s.DB.Errorf("%w", errs.Interrupted(ctx))
	case begun:
		return nil
	}
	if _, err := s.enter(ctx, nil); err != nil {
		return err
	}
	return s.leave(nil)
}

// EndWith is EndAs for a transaction that ends with a statement, which is run only
// where it is to be committed.
func (s *Session) EndWith(ctx context.Context, w Wish, last Last) link.Result {
	returned := false
	defer func() {
		if !returned { // it has panicked, and nobody knows what was sent
			s.last = nil
			s.panicked(ctx)
		}
	}()
	s.last = last
	r := s.EndAs(ctx, w)
	s.last, returned = nil, true
	return r
}

func (s *Session) panicked(ctx context.Context) {
	err := errors.New("the statement panicked")
	s.Watch.End(err)
	s.fail(driver.Lost, err)
	s.end(ctx, false)
	s.publish(link.Result{Open: true, Outcome: driver.Unknown, Err: s.DB.Errorf("%w: %w", errs.ErrCommitUnknown, err)})
	s.Place.Ended(s)
}

// bounded is the context of the end: it lasts for CommitTimeout, or with a last
// statement for as long as its caller's context, where that is longer.
func (s *Session) bounded(ctx context.Context) *ending.Context {
	d := s.Timeout
	if deadline, set := ctx.Deadline(); set && s.last != nil {
		d = max(d, time.Until(deadline))
	}
	return ending.New(ctx, d)
}

// runLast runs the last statements. The very last one it leaves to the connection's
// commit, where that can run it.
func (s *Session) runLast(ctx context.Context, all []Last) (err error) {
	if len(all) == 0 {
		return nil
	}
	conn := s.Conn
	if c, can := conn.(driver.LastCommitter); can {
		last := all[len(all)-1]
		all = all[:len(all)-1]
		defer func() {
			if err == nil {
				c.CommitBehind(func(ctx context.Context) error { return last(ctx, conn) })
			}
		}()
	}
	if s.Shared != nil {
		if conn, err = s.Shared.Enter(ctx); err != nil {
			return err
		}
		defer s.Shared.Exit()
	}
	for _, last := range all {
		err := last(ctx, conn)
		s.Watch.End(err)
		if err != nil {
			return s.DB.Errorf("%w: %w", errs.ErrRolledBack, err)
		}
	}
	return nil
}
