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

// ended is what became of one transaction; not named where there was none.
type ended struct {
	named bool
	state outcome
	err   expected
}

func (o ended) failed() bool { return o.named && o.state != committed }

// obstacle is what forbids a commit.
func (t *tx) obstacle() expected {
	switch {
	case t.running != nil:
		return is(dbscope.ErrRolledBack, dbscope.ErrSessionBusy)
	case t.state != intact:
		return is(dbscope.ErrRolledBack)
	case len(t.blocks) > 0:
		return is(dbscope.ErrRolledBack, dbscope.ErrOpenTransaction)
	}
	return expected{}
}

// settle ends a transaction; where a commit was wanted it says why not.
func (m *model) settle(t *tx, wanted, commit bool) (o ended) {
	if t.over { // a BeforeCommit hook has ended it
		return o
	}
	why := t.obstacle()
	o = m.end(t, commit)
	if wanted && !why.isNil() {
		o = ended{true, rolledBack, why.and(o.err)}
	}
	switch t.result = o.state; {
	case o.named:
	case commit:
		t.result = committed
	default:
		t.result = rolledBack
	}
	if t.scope.txs[t.db] == t {
		t.scope.txs[t.db] = nil
	}
	t.scope.passOn(t)
	return o
}

func (m *model) end(t *tx, commit bool) (o ended) {
	switch {
	case t.running != nil: // it is undone as the statement returns
		t.over, t.deserted = true, true
		return o
	case !t.begun:
	case commit:
		o = m.commit(t)
	default:
		o = ended{true, rolledBack, m.rollback(t)}
	}
	t.over, t.reader = true, nil
	t.endBlocks()
	return o
}

func (m *model) commit(t *tx) ended {
	ids, fails := []int{}, false
	for _, s := range t.rows {
		ids = append(ids, s.number)
		fails = fails || s.failure == orphan
	}
	f := m.fault(t.db, "commit")
	if f == nil && !fails || f != nil && f.fault.done {
		m.dbs[t.db].stored = append(m.dbs[t.db].stored, ids...)
	}
	switch {
	case f != nil && f.fault.state == unknown:
		return ended{true, unknown, is(dbscope.ErrCommitUnknown, f.err)}
	case f != nil:
		return ended{true, rolledBack, is(dbscope.ErrRolledBack, f.err)}
	case fails:
		return ended{true, rolledBack, is(dbscope.ErrRolledBack)}
	}
	return ended{true, committed, expected{}}
}

// endEarly ends one transaction while its scope goes on. own is the block whose
// end that is, if any.
func (m *model) endEarly(e *env, t *tx, commit bool, own *block) (expected, *body) {
	switch {
	case own == nil && len(t.blocks) > 0:
		return is(dbscope.ErrOpenTransaction), nil
	case own == nil && !t.open():
		return expected{}, nil
	case commit && t.scope.together:
		return is(dbscope.ErrOpenTransaction), nil
	case own == nil && t.running != nil:
		return is(dbscope.ErrSessionBusy), nil
	}
	var prevented expected
	if commit {
		var p *body
		if prevented, p = m.before(e, t.scope, t, own); p != nil {
			return expected{}, p
		}
	}
	switch {
	case t.running != nil && own != nil:
		return m.refuseEnd(own), nil
	case t.running != nil: // a hook's
		return is(dbscope.ErrSessionBusy), nil
	case t.over: // a hook has ended it
		if x := t.endedByAnother(true); !x.isNil() {
			return x, nil
		}
	}
	marked := commit && t.scope.marked
	if own != nil && t.top() == own {
		own.over, t.blocks = true, nil
	}
	wanted := commit && !marked && prevented.isNil()
	o := m.settle(t, wanted, wanted && t.obstacle().isNil())
	due := t.scope.take(t)
	if own != nil {
		t.scope.blockEnded(own, t.result == committed)
	}
	m.after(e, t.scope, due)
	switch {
	case !prevented.isNil():
		return prevented.and(o.err), nil
	case marked:
		return is(dbscope.ErrRollbackOnly).and(o.err), nil
	case commit && o.failed():
		o.err.outcomes = []string{told(t.db, o.state)}
	}
	return o.err, nil
}

// finish ends the transactions of scopes together, and the scopes where last.
func (m *model) finish(e *env, commit, last bool, scopes ...*scope) (expected, *body) {
	var prevented expected
	marked := false
	for _, sc := range scopes {
		if commit && prevented.isNil() {
			var p *body
			if prevented, p = m.before(e, sc, nil, nil); p != nil {
				return expected{}, p
			}
		}
		marked = marked || commit && sc.marked
	}
	var txs []*tx
	ok := commit && !marked && prevented.isNil()
	wanted := ok
	for _, sc := range scopes {
		sc.ended = last
		for _, t := range sc.open() {
			txs = append(txs, t)
			ok = ok && t.obstacle().isNil()
		}
	}
	errs := m.settleAll(scopes, txs, wanted, ok)
	for _, sc := range scopes {
		m.after(e, sc, sc.take(nil))
	}
	switch {
	case !prevented.isNil():
		return prevented.and(errs), nil
	case marked:
		return is(dbscope.ErrRollbackOnly).and(errs), nil
	}
	return errs, nil
}

func (m *model) settleAll(scopes []*scope, txs []*tx, wanted, ok bool) (errs expected) {
	all := ok
	var outcomes []string
	begun := map[*scope][]outcome{}
	for _, t := range txs {
		o := m.settle(t, wanted, all)
		all = all && !o.failed()
		errs = errs.and(o.err)
		if o.named {
			outcomes = append(outcomes, told(t.db, o.state))
			begun[t.scope] = append(begun[t.scope], o.state)
		}
	}
	if wanted && !all {
		errs.outcomes = outcomes
	}
	for _, sc := range scopes {
		sc.result = together(begun[sc], all)
	}
	return errs
}

// together is what became of a scope at its end, whatever was committed early:
// what became of all of it, else nobody can say.
func together(each []outcome, ok bool) outcome {
	switch {
	case len(each) == 0 && ok:
		return committed
	case len(each) == 0:
		return rolledBack
	}
	for _, o := range each {
		if o != each[0] {
			return unknown
		}
	}
	return each[0]
}
