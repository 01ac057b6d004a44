package model_test

import (
	"context"
	"slices"

	"github.com/dbscope/dbscope"
)

// program runs the program in the model.
func (m *model) program(p *program) *trace {
	t := &trace{}
	var reports []int
	x, panicked := m.unit(&env{scope: &scope{reports: &reports}, trace: t}, p.main, nil)
	t.report(nil, reports)
	t.result(nil, x, panicked)
	m.awaitAll(t)
	return t
}

func (t *trace) report(s *step, reports []int) {
	if len(reports) > 0 {
		slices.Sort(reports)
		t.add(s, "hook errors").reports = reports
	}
}

func (t *trace) result(s *step, x expected, panicked *body) {
	if panicked != nil {
		t.add(s, "panics")
		return
	}
	t.add(s, "returns").want = x
}

// unit is a function in a scope of its own, which is env's.
func (m *model) unit(e *env, f *body, s *step) (expected, *body) {
	x, p := m.body(e, f)
	if p == nil && x.isNil() {
		x, p = m.endBeside(e, e, s, nil, true, func() (expected, *body) { return m.finish(e, true, true, e.scope) })
		if p == nil {
			return x, nil
		}
		s = nil
	}
	end, _ := m.endBeside(e, e, s, nil, false, func() (expected, *body) { return m.finish(e, false, true, e.scope) })
	x.asIs = end.isNil()
	return x.and(end), p
}

// body returns the function's error, or the one that panicked.
func (m *model) body(e *env, f *body) (expected, *body) {
	for _, s := range f.steps {
		x, p := m.step(e, s)
		if p != nil {
			return expected{}, p
		}
		x.asIs = false
		if s.returns && !x.isNil() {
			return x, nil
		}
	}
	switch f.ending {
	case returnError:
		return is(f.err), nil
	case panics:
		return expected{}, f
	}
	return expected{}, nil
}

func (m *model) step(e *env, s *step) (expected, *body) {
	if e.trace.isCut(s) {
		e.trace.cut.env.cancelled = true
		if x := m.cutShort(e, s); !x.isNil() {
			e.trace.result(s, x, nil)
			return x, nil
		}
	}
	x, p := m.call(e, e.at(s.up), s)
	if s.skipped {
		return expected{}, nil
	}
	e.trace.result(s, x, p)
	if p != nil && s.recovers {
		return expected{}, nil
	}
	return x, p
}

func (m *model) call(e, at *env, s *step) (x expected, p *body) {
	switch s.act {
	case store:
		return m.store(at, s), nil
	case atomicBlock:
		return m.atomic(e, at, s)
	case nest:
		return m.nest(e, at, s)
	case linger:
		return m.linger(e, at, s), nil
	case read:
		return m.read(e, at, s), nil
	case await:
		return m.await(e.trace), nil
	case run:
		var reports []int
		in := &env{scope: &scope{reports: &reports}, block: at.block, above: at, outer: e, trace: e.trace}
		x, p = m.unit(in, s.bodies[0], s)
		e.trace.report(s, reports)
		return x, p
	case group:
		return m.group(e, at, s)
	case hook:
		return m.hook(e, at, s), nil
	case cancel:
		at.cancelled = true
		return x, nil
	case inject:
		m.dbs[s.db].faults = append(m.dbs[s.db].faults, s)
		return x, nil
	}
	if at.scope.ended {
		return is(dbscope.ErrScopeEnded), nil
	}
	switch s.act {
	case commitDB, rollbackDB, releaseDB:
		return m.endEarly(at, at.scope.tx(s.db), s.act == commitDB, nil)
	case commitScope, rollbackScope:
		if s.act == commitScope && at.scope.together {
			return is(dbscope.ErrOpenTransaction), nil
		}
		return m.finish(at, s.act == commitScope, false, at.scope)
	}
	at.scope.marked = true
	return x, nil
}

// group runs the members one after the other. Where they run side by side they
// share nothing, and none fails before all are through.
func (m *model) group(e, at *env, s *step) (x expected, p *body) {
	if m.first {
		s.sequential = m.sequential()
	}
	aside := s.aside && !s.sequential
	g := &env{scope: at.scope, block: at.block, above: at}
	ev := &event{step: s, what: "members"}
	var reports []int
	var done []*scope
	var failed []expected
	var cause, anyCut bool
	for _, f := range s.bodies {
		in := &env{scope: &scope{reports: &reports, together: s.together}, block: at.block, above: g, outer: e, trace: e.trace}
		if aside {
			in.outer, in.trace = nil, &trace{}
			ev.members = append(ev.members, in.trace)
		}
		m.cutAt(in, f)
		x := m.member(in, s.together, f)
		_, cut := m.cuts[f]
		cause, anyCut = cause || !cut && !x.isNil(), anyCut || cut
		switch {
		case !x.isNil():
			failed = append(failed, x)
			g.cancelled = !aside
		case s.together:
			done = append(done, in.scope)
		}
	}
	m.unfounded = m.unfounded || anyCut && !cause && !at.done()
	g.cancelled = g.cancelled || len(failed) > 0
	x = joinMembers(failed, aside)
	if len(done) > 0 {
		var end expected
		end, p = m.finish(g, len(failed) == 0, true, done...)
		end.anyOrder = aside
		x = x.and(end)
	}
	if p != nil { // of a BeforeCommit hook
		for _, sc := range done {
			_, _ = m.finish(g, false, true, sc)
		}
	}
	g.cancelled = true
	for _, member := range ev.members {
		m.awaitAll(member)
	}
	if aside {
		e.trace.events = append(e.trace.events, ev)
	}
	e.trace.report(s, reports)
	return x, p
}

// sequential reports whether the order matters in which functions of a Group run.
func (m *model) sequential() bool {
	return m.kind.oneWriter || len(m.dbs[0].faults) > 0 || len(m.dbs[1].faults) > 0
}

// member is a function of a Group; its panic is made an error.
func (m *model) member(e *env, holds bool, f *body) expected {
	x, p := m.body(e, f)
	if p != nil {
		x = is(p.err)
	}
	if holds && x.isNil() {
		return x
	}
	end, _ := m.finish(e, x.isNil(), true, e.scope)
	return x.and(end)
}

// joinMembers is the error of Wait: that a member was cancelled may be left out,
// unless it is the first.
func joinMembers(failed []expected, aside bool) (x expected) {
	for i, each := range failed {
		if slices.Contains(each.anyOf, context.Canceled) && (i > 0 || aside) {
			each = expected{failed: true, all: each.all, outcomes: each.outcomes}
		}
		if aside && len(failed) > 1 {
			each.outcomes = nil
		}
		x = x.and(each)
	}
	return x
}
