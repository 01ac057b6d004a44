package model_test

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/dbscope/dbscope"
)

// cut is where a function of a Group finds that another one has failed, whose
// error cancels its context. Chance decides which step that is: reality tells.
type cut struct {
	step *step
	how  state // intact where the step was refused, else what that did to its transaction
	env  *env
}

// cuts are the first steps of functions whose error is that of a context, while the
// Group's others went on.
func (t *trace) cuts() map[*body]cut {
	all := map[*body]cut{}
	for _, e := range t.events {
		for i, member := range e.members {
			maps.Copy(all, member.cuts())
			if first := member.firstCanceled(); e.step.hasty && first != nil {
				all[e.step.bodies[i]] = cut{step: first}
			}
		}
	}
	return all
}

func (t *trace) firstCanceled() *step {
	i := slices.IndexFunc(t.events, func(e *event) bool { return errors.Is(e.err, context.Canceled) })
	if i < 0 {
		return nil
	}
	return t.events[i].step
}

// variants are all ways in which the steps may have been cut short.
func variants(cuts map[*body]cut) []map[*body]cut {
	all := []map[*body]cut{{}}
	for f, c := range cuts {
		var next []map[*body]cut
		for _, some := range all {
			for _, how := range []state{intact, doomed, gone} {
				more := map[*body]cut{f: {step: c.step, how: how}}
				maps.Copy(more, some)
				next = append(next, more)
			}
		}
		all = next
	}
	return all
}

// cutAt notes where the function that runs in env is to be cut short.
func (m *model) cutAt(e *env, f *body) {
	if c, is := m.cuts[f]; is {
		c.env = e
		e.trace.cut = &c
	}
}

func (t *trace) isCut(s *step) bool { return t.cut != nil && t.cut.step == s && !t.cut.env.cancelled }

// cutShort is a statement that had been admitted.
func (m *model) cutShort(e *env, s *step) expected {
	how := e.trace.cut.how
	if how == intact || s.act != store && s.act != atomicBlock || e.scope.ended {
		return expected{}
	}
	t := e.scope.tx(s.db)
	uncancelled := *e
	for _, reason := range uncancelled.uncancelled().refusals(t) {
		return refused([]error{reason, context.Canceled})
	}
	if t.doom(); how == gone {
		t.state = gone
	}
	return refused([]error{context.Canceled, dbscope.ErrRolledBack})
}
