package session

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/driver"
)

// LendTo makes the transaction of another session, which is not open yet, one on the
// connection that is kept. Until it has ended no statement is admitted outside it.
func (s *Session) LendTo(ctx context.Context, ss *Session) error {
	if _, err := s.Enter(ctx); err != nil {
		return err
	}
	ss.Conn, ss.Engine = s.Conn, s.Engine
	ss.Lender = func(reuse bool) {
		if !reuse {
			s.fail(driver.Lost, errLentLost)
		}
		_ = s.leave(nil)
	}
	return nil
}

var errLentLost = errors.New("a transaction on it has failed so that it must not be used again")

// GiveUp ends a session outside units that has kept its connection.
func (s *Session) GiveUp() {
	s.Ending.Lock()
	defer s.Ending.Unlock()
	if s.SeizeOrAbandon(context.Background()) {
		_ = s.EndAs(context.Background(), Commit) // there is no transaction that could fail
	}
}
