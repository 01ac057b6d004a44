package model_test

import (
	"database/sql"

	"github.com/dbscope/dbscope"
)

// nest begins a block by a handle, whose statements come with any context.
func (m *model) nest(e, at *env, s *step) (expected, *body) {
	if at.scope.ended {
		return is(dbscope.ErrScopeEnded), nil
	}
	t := at.scope.tx(s.db)
	if reasons := at.uncancelled().refusals(t); len(reasons) > 0 {
		return refused(reasons), nil
	}
	b := &block{tx: t, nest: true, start: len(t.rows), below: t.top()}
	if !t.begun {
		b.kind = fromStart
	} else if f := m.fault(s.db, "savepoint"); f != nil {
		t.fail(f.fault.fate)
		return is(f.err), nil
	}
	t.blocks = append(t.blocks, b)
	return m.inBlock(e, &env{scope: at.scope, block: at.block, above: at, outer: e, trace: e.trace}, s, b)
}

// inBlock runs the function of a block, and ends the block.
func (m *model) inBlock(e, in *env, s *step, b *block) (expected, *body) {
	x, p := m.body(in, s.bodies[0])
	commit := p == nil && x.isNil()
	end, panicked := m.endBeside(e, in, s, b, commit, func() (expected, *body) {
		return m.endBlock(in, b, commit)
	})
	if commit {
		return end, panicked
	}
	x.asIs = end.isNil()
	return x.and(end), p
}

func (m *model) endBlock(e *env, b *block, commit bool) (x expected, p *body) {
	switch {
	case b.deserted:
		return is(dbscope.ErrRolledBack, dbscope.ErrSessionBusy), nil
	case b.tx.over:
		return is(sql.ErrTxDone), nil
	case b.kind == owner:
		x, p = m.endEarly(e, b.tx, commit, b)
		if p != nil { // of a BeforeCommit hook
			_, _ = m.endEarly(e, b.tx, false, b)
		}
		return x, p
	case b.running != nil:
		return m.refuseEnd(b), nil
	}
	b.reader = nil
	if commit {
		x = m.keep(b)
	} else {
		x = m.undo(b)
	}
	b.pop(commit && x.isNil())
	return x, nil
}

// refuseEnd is the end of a block while a statement runs. Atomic does not come
// again, a handle might.
func (m *model) refuseEnd(b *block) expected {
	b.doom()
	if !b.nest {
		b.pop(false)
	}
	return is(dbscope.ErrSessionBusy)
}

// pop takes the block, and those left open in it, off the stack.
func (b *block) pop(kept bool) {
	for !b.over {
		top := b.top()
		top.over = true
		b.blocks = b.blocks[:len(b.blocks)-1]
		b.scope.blockEnded(top, kept)
	}
}

// endBlocks is for the end of a transaction whose blocks are open.
func (t *tx) endBlocks() {
	if len(t.blocks) > 0 {
		t.blocks[0].pop(false)
	}
}

// doom lets nothing but a rollback through, though the database would.
func (t *tx) doom() {
	if t.state < doomed {
		t.state, t.doomed = doomed, t.top()
	}
}

func (m *model) keep(b *block) expected {
	if b.top() != b {
		b.doom()
	}
	switch {
	case b.state != intact && b.nest:
		return is(dbscope.ErrRolledBack)
	case b.state != intact: // then it is undone alone
		return is(dbscope.ErrRolledBack).and(m.undo(b))
	case b.kind == savepoint:
		if f := m.fault(b.db, "release savepoint"); f != nil {
			b.state, b.doomed = max(doomed, stateAfter[f.fault.fate]), b
			return is(dbscope.ErrRolledBack, f.err)
		}
	}
	return expected{}
}

func (m *model) undo(b *block) (x expected) {
	switch {
	case b.kind == fromStart:
		if b.begun {
			x = m.rollback(b.tx)
		}
		b.begun, b.state, b.rows = false, intact, nil
	case b.state != gone:
		if f := m.fault(b.db, "rollback to"); f != nil {
			b.state = gone
			return is(dbscope.ErrRolledBack)
		}
		b.rows = b.rows[:b.start]
		if b.state == aborted || b.state == doomed && b.doomed.within(b) {
			b.state = intact
		}
	}
	return x
}

// within reports whether a block is the other one, or nested in it.
func (b *block) within(other *block) bool {
	for b != nil && b != other {
		b = b.below
	}
	return b != nil
}
