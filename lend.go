package dbscope

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/driver"
)

// lendTo makes the transaction of another session, which is not open yet, one on the
// connection that is kept. Until it has ended no statement is admitted outside it.
func (s *session) lendTo(ctx context.Context, ss *session) error {
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

// giveUp ends a session outside units that has kept its connection.
func (s *session) giveUp() {
	s.ending.Lock()
	defer s.ending.Unlock()
	s.seizeOrAbandon(context.Background())
	_ = s.settle(context.Background(), commit) // there is no transaction that could fail
}
