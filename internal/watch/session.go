package watch

import (
	"context"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/observe"
)

// Session is one connection with one transaction. Who holds the session alone uses it.
type Session struct {
	db         *DB
	readOnly   bool
	host       string
	replica    bool
	tx         Op
	statement  Op
	savepoints int
	comesAgain bool // the statement was not sent, and is about to be prepared, or was, and then run
}

// At notes where the session is about to connect to.
func (s *Session) At(host string, replica bool) {
	if s != nil {
		s.host, s.replica = host, replica
	}
}

func (s *Session) of(kind observe.Kind) observe.Event {
	e := s.db.of(kind)
	e.Host, e.Replica, e.ReadOnly, e.Savepoints = s.host, s.replica, s.readOnly, s.savepoints
	return e
}

// Step tells of something that takes time: in the transaction, where one has begun.
func (s *Session) Step(ctx context.Context, kind observe.Kind, text string) (context.Context, Op) {
	if s == nil {
		return ctx, Op{}
	}
	e := s.of(kind)
	e.Text = text
	return Start(ctx, s.inside(), e)
}

// Hears reports whether somebody is to be told of statements.
func (s *Session) Hears() bool { return s.inside() != nil }

func (s *Session) inside() observe.Observer {
	if s.tx.event.Kind != 0 {
		return s.tx.inside()
	}
	return s.db.above
}

// Begin tells that a transaction begins, and returns the context for that.
func (s *Session) Begin(ctx context.Context, readOnly bool) context.Context {
	if s == nil {
		return ctx
	}
	s.readOnly, s.savepoints = readOnly, 0
	ctx, s.tx = Start(ctx, s.db.above, s.of(observe.Transaction))
	return ctx
}

// Over tells that the transaction is over, if there is one.
func (s *Session) Over(outcome driver.Outcome, err error) {
	if s == nil || s.tx.event.Kind == 0 {
		return
	}
	s.endSkipped()
	o := OutcomeOf(outcome)
	s.db.unit.Transaction(o)
	op := s.tx
	s.tx = Op{}
	op.End(o, err)
}

// Savepoint tells of a statement about one, and how many there are then.
func (s *Session) Savepoint(ctx context.Context, kind observe.Kind, name string, live int) (context.Context, Op) {
	if s != nil {
		s.savepoints = live
	}
	return s.Step(ctx, kind, name)
}

// Refused tells of a use that was refused, as [Unit.Refused] does. Unlike the others it is
// for those who do not hold the session.
func (s *Session) Refused(ctx context.Context, err error) {
	if s != nil && isRefusal(err) {
		_, op := Start(ctx, s.db.above, s.db.of(observe.Refusal))
		op.End(observe.None, err)
	}
}

// Start implements [driver.StatementObserver].
func (s *Session) Start(ctx context.Context, st driver.Statement) context.Context {
	if s.comesAgain && st.Text == s.statement.event.Text {
		s.comesAgain = st.Prepares
		return s.statement.ctx
	}
	s.endSkipped()
	e := s.of(observe.Statement)
	if st.Prepares {
		e.Kind = observe.Prepare
	}
	e.Text, e.Statements = st.Text, max(st.Count, 1)
	ctx, s.statement = Start(ctx, s.inside(), e)
	return ctx
}

// End tells that the statement is over, if one has begun: unless database/sql is about
// to come again with it, since the driver wants it prepared first.
func (s *Session) End(err error) {
	switch {
	case s == nil || s.statement.span == nil:
	case err == driver.ErrNotSent, s.comesAgain && err == nil: //nolint:errorlint // that alone says so
		s.comesAgain = true
	default:
		s.comesAgain = false
		s.statement.End(observe.None, err)
	}
}

// EndLeftOpen tells that the statement is over, since somebody else has closed its rows.
func (s *Session) EndLeftOpen(err error) {
	if s != nil {
		s.statement.event.LeftOpen = true
		s.End(err)
	}
}

// endSkipped ends a statement that did not come again.
func (s *Session) endSkipped() {
	if s.comesAgain {
		s.comesAgain = false
		s.statement.End(observe.None, driver.ErrNotSent)
	}
}
