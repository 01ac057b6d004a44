package model_test

import "github.com/dbscope/dbscope"

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
	case commit && t.scope.together:
		return is(dbscope.ErrOpenTransaction), nil
	case own == nil && !t.open():
		return expected{}, nil
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
