package model_test

import (
	"database/sql"

	"github.com/dbscope/dbscope"
)

// pending is another goroutine that has to be awaited.
type pending struct {
	step *step
	tx   *tx
}

// linger begins a statement of another goroutine.
func (m *model) linger(e, at *env, s *step) expected {
	t, x := m.admit(at.uncancelled(), s)
	if m.first {
		s.lingers = t != nil
	}
	switch {
	case t == nil:
		return x
	case !s.lingers && s.query: // it was not to be reached
		return expected{}
	case !s.lingers:
		return m.execute(t, s)
	}
	t.running = s
	e.trace.pending = append(e.trace.pending, pending{s, t})
	return expected{}
}

// read leaves rows of another goroutine open.
func (m *model) read(e, at *env, s *step) expected {
	t, x := m.admit(at.uncancelled(), s)
	if t == nil {
		return x
	}
	t.reader = s
	e.trace.pending = append(e.trace.pending, pending{s, t})
	return expected{}
}

// await lets the first goroutine go on.
func (m *model) await(t *trace) expected {
	if len(t.pending) == 0 {
		return expected{}
	}
	p := t.pending[0]
	t.pending = t.pending[1:]
	if p.step.act == read {
		return p.tx.readOn(p.step)
	}
	return m.statementReturns(p.tx, p.step)
}

// awaitAll is for the end of the program, or of a Group.
func (m *model) awaitAll(t *trace) {
	for len(t.pending) > 0 {
		s := t.pending[0].step
		t.add(s, "late").want = m.await(t)
	}
}

// statementReturns is the end of a statement of another goroutine. One whose
// transaction was ended meanwhile undoes that.
func (m *model) statementReturns(t *tx, s *step) expected {
	broken := t.begun && t.state != intact
	x := m.begin(t)
	if x.isNil() && !s.query {
		x = m.execute(t, s)
	}
	t.running = nil
	switch {
	case !x.isNil() && broken:
		x = x.and(is(dbscope.ErrRolledBack))
	case s.query && t.deserted: // the query returns, and its rows are closed
		x = refused([]error{sql.ErrTxDone, dbscope.ErrScopeEnded, dbscope.ErrRolledBack})
	case x.isNil() && t.deserted:
		x = is(dbscope.ErrRolledBack, dbscope.ErrSessionBusy)
	}
	if t.deserted {
		if undone := m.undoDeserted(t); !s.query { // whose rows nobody has been given yet
			x = x.and(undone)
		}
		t.deserted = false
		t.endBlocks()
	}
	return x
}

func (m *model) undoDeserted(t *tx) expected {
	if !t.begun {
		return expected{}
	}
	return m.rollback(t)
}

// readOn reads the rest of the rows, which may have been closed meanwhile.
func (t *tx) readOn(s *step) expected {
	if t.reader == s {
		t.reader = nil
		return expected{}
	}
	if t.scope.ended {
		return is(dbscope.ErrScopeEnded)
	}
	reasons := []error{sql.ErrTxDone}
	if t.running != nil {
		reasons = append(reasons, dbscope.ErrSessionBusy)
	}
	return refused(reasons)
}
