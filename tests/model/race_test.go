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
	blockLate // the block's end had begun when the other one came first
	otherLate // and the other way round
	orders
)

// orders are those that a program may have.
func (p *program) orders() order {
	for _, s := range p.main.steps {
		if s.beside != nil {
			return orders
		}
	}
	return 1
}

// endBeside ends a block, and beside it what the step says. An end that had
// begun says what the other one did of the transaction that it was to end.
func (m *model) endBeside(e, at *env, s *step, b *block, commit bool) (x expected, p *body) {
	if s.beside == nil {
		return m.endAtomic(at, b, commit)
	}
	open, t := !b.tx.over, b.tx
	var other expected
	if m.order == otherFirst || m.order == blockLate {
		other, _ = m.call(e, at, s.beside)
	}
	late := m.order == blockLate && open && t.over && b.kind == owner
	x, p = m.endAtomic(at, b, commit)
	if late {
		x = t.endedByAnother(commit)
	}
	if m.order == blockFirst || m.order == otherLate {
		other, _ = m.call(e, at, s.beside)
	}
	if m.order == otherLate && open && t.over && s.beside.isOf(t) {
		other = t.endedByAnother(s.beside.act == commitDB)
	}
	e.trace.result(s.beside, other, nil)
	e.trace.result(s.after, m.storeAfter(e, t, s.after), nil)
	return x, p
}

// storeAfter stores with the handle of a transaction that was to be ended.
func (m *model) storeAfter(e *env, t *tx, s *step) expected {
	switch {
	case !t.over:
		return m.store(&env{scope: t.scope, above: e}, s)
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

// race is the end of a block and another one at the same time.
type race struct {
	aside sync.WaitGroup
	after func()
}

// prepare takes the handle of the block's transaction, and returns what is called
// where the block's function returns. Nothing else is added to the trace before
// over has returned.
func (c *race) prepare(r *reality, p *place, s *step) (start func()) {
	if s.beside == nil {
		return func() {}
	}
	store, err := r.dbs[s.db].handle(p.ctx)
	c.after = func() {
		if err == nil {
			err = store(p.ctx, s.after)
		}
		p.trace.add(s.after, "returns").err = err
	}
	return func() {
		running := make(chan struct{})
		c.aside.Go(func() {
			close(running)
			_ = r.step(p, s.beside)
		})
		<-running
	}
}

// over waits for both, and then uses the handle of the transaction once more.
func (c *race) over() {
	if c.aside.Wait(); c.after != nil {
		c.after()
	}
}
