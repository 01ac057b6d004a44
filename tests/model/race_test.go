package model_test

import (
	"context"
	"database/sql"
	"sync"

	"github.com/dbscope/dbscope"
)

// order is in which order two ends happen that run side by side.
type order int

const (
	blockFirst order = iota
	otherFirst
	blockLate // the block's end had begun when the other one came first, or a statement runs when the block ends
	otherLate // and the other way round, or a statement comes while the block's end is under way
	orders
)

// orders are those that a program may have.
func (p *program) orders() order {
	if s := p.main.race(); s != nil && !s.late {
		return orders
	}
	return 1
}

// race returns the step beside whose end something happens, or nil.
func (f *body) race() *step {
	for _, s := range f.steps {
		if s.beside != nil {
			return s
		}
		for _, inner := range s.bodies {
			if found := inner.race(); found != nil {
				return found
			}
		}
	}
	return nil
}

// endBeside ends a block, or a unit where b is nil, and beside it what the step
// says is done with the context of the block or unit. An end that had begun says
// what the other one did of the transaction that it was to end.
func (m *model) endBeside(e, in *env, s *step, b *block, commit bool, end func() (expected, *body)) (x expected, p *body) {
	if s == nil || s.beside == nil {
		return end()
	}
	from := len(e.trace.events)
	var other expected
	if s.beside.act == store {
		if m.first {
			s.beside.skipped = m.locked(in.scope, s.beside.db)
		}
		x, p, other = m.endBesideStatement(in, s.beside, b, end)
	} else {
		x, p, other = m.endBesideEnd(in, s.beside, b, commit, end)
	}
	if !s.beside.skipped {
		e.trace.result(s.beside, other, nil)
	}
	e.trace.sortFrom(from)
	if s.after == nil {
		return x, p
	}
	if m.first {
		s.after.skipped = m.locked(e.scope, s.db)
	}
	if !s.after.skipped {
		e.trace.result(s.after, m.storeAfter(e, b.tx, s.after), nil)
	}
	return x, p
}

func (m *model) endBesideEnd(in *env, s *step, b *block, commit bool, end func() (expected, *body)) (x expected, p *body, other expected) {
	t := in.scope.txs[s.db]
	open := t != nil && t.open()
	owns := b != nil && b.kind == owner && !b.tx.over
	if m.order == otherFirst || m.order == blockLate {
		other, _ = m.call(in, in, s)
	}
	late := m.order == blockLate && owns && b.tx.over
	x, p = end()
	if late {
		x = b.endedByAnother(commit)
	}
	if m.order == blockFirst || m.order == otherLate {
		other, _ = m.call(in, in, s)
	}
	if m.order == otherLate && open && t.over && s.isOf(t) {
		other = t.endedByAnother(s.act == commitDB)
	}
	return x, p, other
}

func (m *model) endBesideStatement(in *env, s *step, b *block, end func() (expected, *body)) (x expected, p *body, other expected) {
	var t *tx
	if s.skipped {
		x, p = end()
		return x, p, other
	}
	switch m.order {
	case otherFirst:
		other = m.store(in, s)
	case blockLate:
		if t, other = m.take(in, s); t == nil {
			t, s = m.sentInVain(in, s)
		}
		if t != nil { // BEGIN may be under way, too
			t.running = s
		}
	}
	x, p = end()
	switch {
	case t != nil && !other.isNil():
		_ = m.statementReturns(t, s)
	case t != nil:
		other = m.statementReturns(t, s)
	case m.order == blockFirst:
		other = m.store(in, s)
	case m.order == otherLate && b != nil && b.db == s.db:
		other = is(dbscope.ErrSessionBusy)
	case m.order == otherLate:
		other = m.store(in, s)
	}
	return x, p, other
}

// sentInVain returns the transaction in which the database refuses the statement, as
// it may be one that goes back to a savepoint; the step stands for that.
func (m *model) sentInVain(e *env, s *step) (*tx, *step) {
	if e.scope.ended || s.skipped {
		return nil, s
	}
	t := e.scope.tx(s.db)
	if t.state != aborted || len(e.refusals(t)) > 1 {
		return nil, s
	}
	return t, &step{act: linger, query: true}
}

// storeAfter stores with the handle of a transaction that was to be ended.
func (m *model) storeAfter(e *env, t *tx, s *step) expected {
	switch {
	case t.deserted && e.done():
		return refused([]error{dbscope.ErrRolledBack, context.Canceled})
	case t.deserted:
		return is(dbscope.ErrRolledBack, dbscope.ErrSessionBusy)
	case !t.over:
		return m.store(e, s)
	case e.done():
		return refused([]error{sql.ErrTxDone, context.Canceled})
	}
	return is(sql.ErrTxDone)
}

// isOf reports whether the step ends just this transaction.
func (s *step) isOf(t *tx) bool {
	return (s.act == commitDB || s.act == rollbackDB || s.act == releaseDB) && s.db == t.db
}

func (t *tx) endedByAnother(commit bool) expected {
	switch {
	case !commit || t.result == committed:
		return expected{}
	case t.result == unknown:
		return is(dbscope.ErrCommitUnknown)
	}
	return is(dbscope.ErrRolledBack, sql.ErrTxDone)
}

// race is the end of a block or unit, and something else at the same time.
type race struct {
	aside sync.WaitGroup
	rest  func() // once the end has returned
}

// prepare is for where the function begins, in its place: it takes the handle of
// the block's transaction. It returns what is called where the function returns.
func (c *race) prepare(r *reality, p, in *place, s *step) (start func()) {
	if s.beside == nil {
		return func() {}
	}
	after := func() {}
	if s.after != nil {
		handle, err := r.dbs[s.db].handle(p.ctx)
		after = func() {
			if s.after.skipped {
				return
			}
			if err == nil {
				err = handle(p.ctx, s.after)
			}
			p.trace.add(s.after, "returns").err = err
		}
	}
	return func() {
		from := p.trace.len()
		running := make(chan struct{})
		begin := func() {
			c.aside.Go(func() {
				close(running)
				_ = r.step(in, s.beside)
			})
			<-running
		}
		if !s.late {
			begin()
		}
		c.rest = func() {
			if s.late {
				begin()
			}
			c.aside.Wait()
			p.trace.sortFrom(from)
			after()
		}
	}
}

// over waits for both, and then uses the handle of the transaction once more.
func (c *race) over() {
	if c.rest != nil {
		c.rest()
	}
}
