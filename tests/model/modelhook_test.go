package model_test

import "github.com/dbscope/dbscope"

// hooked is a hook that waits for the end of a transaction.
type hooked struct {
	step  *step
	env   *env // of its registration
	when  moment
	tx    *tx    // nil for the scope's
	block *block // the innermost it belongs to
}

// afterEnd is the moment of an AfterRollback hook whose block was undone.
const afterEnd = afterRollback + 1

func (h *hooked) due(o outcome) bool {
	return h.when == afterEnd || h.when == afterCommit && o == committed || h.when == afterRollback && o == rolledBack
}

func (m *model) hook(e, at *env, s *step) expected {
	sc := at.scope
	if sc.ended {
		return is(dbscope.ErrScopeEnded)
	}
	h := &hooked{step: s, env: e, when: s.moment}
	if s.ofScope {
		h.block = sc.nearest(at.block)
	} else {
		h.tx = sc.tx(s.db)
		h.block = h.tx.top()
	}
	sc.hooks, sc.hooked = append(sc.hooks, h), true
	return expected{}
}

// nearest is the innermost open block around a context, if it is the scope's.
func (sc *scope) nearest(b *block) *block {
	for b != nil && b.over {
		b = b.outer
	}
	if b != nil && b.scope != sc {
		return nil
	}
	return b
}

// blockEnded gives a block's hooks to the one around it; of an undone one only
// AfterRollback's are left.
func (sc *scope) blockEnded(b *block, kept bool) {
	var left []*hooked
	for _, h := range sc.hooks {
		if h.block == b {
			if !kept && h.when < afterRollback {
				continue
			}
			if !kept {
				h.when = afterEnd
			}
			if h.block = b.below; h.tx == nil {
				h.block = sc.nearest(b.outer)
			}
		}
		left = append(left, h)
	}
	sc.hooks = left
}

// take removes the hooks that wait for a transaction, or all, and returns those
// that are due.
func (sc *scope) take(only *tx) (due []*hooked) {
	var left []*hooked
	for _, h := range sc.hooks {
		o := sc.result
		if h.tx != nil {
			o = h.tx.result
		}
		switch {
		case only != nil && h.tx != only, !sc.ended && h.tx != nil && !h.tx.over:
			left = append(left, h)
		case h.due(o):
			due = append(due, h)
		}
	}
	sc.hooks = left
	return due
}

// passOn gives the BeforeCommit hooks of what has ended and had not begun to the
// next transaction, unless they are those of an undone block.
func (sc *scope) passOn(t *tx) {
	if t.begun || sc.ended {
		return
	}
	for _, h := range sc.hooks {
		if h.tx == t && h.when == beforeCommit && (h.block == nil || t.result == committed) {
			h.tx, h.block = sc.tx(t.db), nil
		}
	}
}

// before runs the BeforeCommit hooks of a scope, or of one transaction of it,
// in the scope, until one fails. There are none where the commit fails anyway.
func (m *model) before(e *env, sc *scope, only *tx, own *block) (expected, *body) {
	if sc.marked {
		return expected{}, nil
	}
	for _, t := range sc.open() {
		if t.reader != nil && (only == nil || t == only) && sc.hooked {
			t.reader = nil // it is closed before they run
		}
		if t.state != intact && (only == nil || t == only) {
			return expected{}, nil
		}
	}
	for {
		h := sc.takeBefore(only, own)
		if h == nil {
			return expected{}, nil
		}
		h.env.trace.add(h.step, "runs")
		x, p := m.body(&env{scope: sc, block: e.block, outer: h.env, trace: h.env.trace}, h.step.bodies[0])
		if p != nil {
			for _, t := range sc.open() {
				if t.begun && (only == nil || t == only) {
					t.doom()
				}
			}
			return expected{}, p
		}
		if !x.isNil() {
			return is(dbscope.ErrRolledBack).and(x), nil
		}
	}
}

// takeBefore leaves the hooks of blocks that are still open: they are undone, but
// for own, which is committed.
func (sc *scope) takeBefore(only *tx, own *block) *hooked {
	for i, h := range sc.hooks {
		if h.block != nil && h.block.scope == sc && !h.block.over && h.block != own {
			continue
		}
		if h.when == beforeCommit && (only == nil || h.tx == only) && (h.tx == nil || h.tx.begun) {
			sc.hooks = append(sc.hooks[:i:i], sc.hooks[i+1:]...)
			return h
		}
	}
	return nil
}

// after runs hooks, each in a unit of its own, whatever some of them do.
func (m *model) after(e *env, sc *scope, due []*hooked) {
	failed := 0
	for _, h := range due {
		h.env.trace.add(h.step, "runs")
		in := &env{scope: &scope{reports: sc.reports}, block: e.block, outer: h.env, trace: h.env.trace}
		if x, p := m.unit(in, h.step.bodies[0], nil); p != nil || !x.isNil() {
			failed++
		}
	}
	if failed > 0 {
		*sc.reports = append(*sc.reports, failed)
	}
}
