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

// OpenForLast opens the session as the statement that is to be its last would.
func (s *Session) OpenForLast(ctx context.Context) error {
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

// runLast runs the last statement, or leaves it to the connection's commit.
func (s *Session) runLast(ctx context.Context) error {
	conn, err := s.Conn, error(nil)
	if c, can := conn.(driver.LastCommitter); can {
		last := s.last
		c.CommitBehind(func(ctx context.Context) error { return last(ctx, conn) })
		return nil
	}
	if s.Shared != nil {
		if conn, err = s.Shared.Enter(ctx); err != nil {
			return err
		}
		defer s.Shared.Exit()
	}
	if err = s.last(ctx, conn); err != nil {
		err = s.DB.Errorf("%w: %w", errs.ErrRolledBack, err)
	}
	return err
}
