package model_test

import (
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"
)

// weighed draws values as often as their weights say. rapid shrinks towards
// the first. Since rapid prefers what is near it anyway, the rest are mixed.
func weighed[T any](pairs ...any) *rapid.Generator[T] {
	var values []T
	for i := 0; i < len(pairs); i += 2 {
		for range pairs[i+1].(int) {
			values = append(values, pairs[i].(T))
		}
	}
	rest := values[1:]
	r := rand.New(rand.NewPCG(1, 1)) // the same each time, so that a seed is enough
	r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return rapid.SampledFrom(values)
}

var (
	someEnding  = weighed[ending](returnNil, 24, returnError, 5, panics, 2)
	hookEnding  = weighed[ending](returnNil, 12, returnError, 2, panics, 1)
	someMode    = weighed[mode](nested, 14, commitOpen, 4, rollbackOpen, 4, appendOpen, 5, reject, 2)
	someMoment  = weighed[moment](afterCommit, 3, afterRollback, 3, beforeCommit, 3)
	fewLevels   = weighed[int](0, 28, 1, 3, 2, 1)
	someFate    = weighed[failure](harmless, 1, aborting, 3, undoing, 2, losing, 2)
	faultyKind  = weighed[string]("commit", 6, "rollback", 3, "rollback to", 2, "savepoint", 2, "release savepoint", 2, "begin", 2)
	someOutcome = weighed[outcome](rolledBack, 2, unknown, 1)
	oneInThree  = weighed[bool](false, 2, true, 1)
	oneInFour   = weighed[bool](false, 3, true, 1)
	besideActs  = weighed[act](rollbackScope, 3, commitScope, 3, rollbackDB, 2, commitDB, 2, releaseDB, 1, store, 3)
	raceActs    = weighed[act](atomicBlock, 3, nest, 1, run, 2)
	outerActs   = weighed[act](run, 1, atomicBlock, 1, nest, 1, group, 1)
	leafActs    = []any{
		store, 32, hook, 16, commitDB, 3, rollbackDB, 3, releaseDB, 2, markRollback, 1, cancel, 2,
		commitScope, 1, rollbackScope, 1, linger, 3, read, 3, await, 5,
	}
	innerActs = slices.Concat(leafActs, []any{atomicBlock, 26, run, 6, group, 7, nest, 7})
)

// generator draws programs for one kind of database.
type generator struct {
	kind     *kind
	failures *rapid.Generator[failure]
	leaf     *rapid.Generator[act]
	inner    *rapid.Generator[act]
}

func newGenerator(k *kind) *generator {
	failures := []any{sound, 50}
	for _, f := range []failure{harmless, aborting, undoing, losing, duplicate, misspelt} {
		if _, has := k.fates[f]; has {
			failures = append(failures, f, 3)
		}
	}
	g := &generator{kind: k, leaf: weighed[act](leafActs...), inner: weighed[act](innerActs...)}
	if k.inject {
		g.leaf = weighed[act](append(leafActs, inject, 5)...)
		g.inner = weighed[act](append(innerActs, inject, 6)...)
	}
	if k.deferred {
		failures = append(failures, orphan, 3)
	}
	g.failures = weighed[failure](failures...)
	return g
}

func (g *generator) programs() *rapid.Generator[*program] {
	return rapid.Custom(func(t *rapid.T) *program {
		p := &program{main: g.body(t, 0, someEnding)}
		if oneInFour.Draw(t, "two ends side by side") {
			g.addRace(t, p.main)
		}
		n := 0
		p.main.enumerate(&n)
		p.main.tame(false)
		return p
	})
}

const depth = 4

func (g *generator) body(t *rapid.T, level int, end *rapid.Generator[ending]) *body {
	step := rapid.Custom(func(t *rapid.T) *step { return g.step(t, level) })
	return &body{
		steps:  rapid.SliceOfN(step, 0, max(3, 12-3*level)).Draw(t, "steps"),
		ending: end.Draw(t, "ending"),
	}
}

func (g *generator) step(t *rapid.T, level int) *step {
	acts, level := g.inner, level+1
	if level >= depth {
		acts = g.leaf
	}
	s := &step{act: acts.Draw(t, "act")}
	switch s.act {
	case store, linger:
		s.failure = g.failures.Draw(t, "failure")
		s.query = s.act == linger && oneInThree.Draw(t, "query")
		if s.query || s.act == linger && s.failure == misspelt { // which never runs
			s.failure = sound
		}
	case atomicBlock:
		s.mode = someMode.Draw(t, "mode")
		s.bodies = []*body{g.body(t, level, someEnding)}
	case run, nest:
		s.bodies = []*body{g.body(t, level, someEnding)}
	case group:
		s.together, s.aside = rapid.Bool().Draw(t, "together"), rapid.Bool().Draw(t, "side by side")
		s.hasty = g.kind.hasty && oneInThree.Draw(t, "in haste")
		for range rapid.IntRange(1, 3).Draw(t, "members") {
			s.bodies = append(s.bodies, g.body(t, level+1, someEnding))
		}
	case hook:
		s.moment, s.ofScope = someMoment.Draw(t, "moment"), rapid.Bool().Draw(t, "of scope")
		s.bodies = []*body{g.body(t, max(level, depth-1), hookEnding)}
	case inject:
		s.fault.kind = faultyKind.Draw(t, "kind")
		if s.fault.kind == "commit" {
			s.fault.state, s.fault.fate = someOutcome.Draw(t, "state"), harmless
			s.fault.done = s.fault.state == unknown && rapid.Bool().Draw(t, "done")
		} else {
			s.fault.fate = someFate.Draw(t, "fate")
		}
	}
	s.db = rapid.IntRange(0, 1).Draw(t, "db")
	s.up = fewLevels.Draw(t, "up")
	s.returns = oneInThree.Draw(t, "returns")
	s.recovers = len(s.bodies) > 0 && rapid.Bool().Draw(t, "recovers")
	return s
}

// enumerate gives steps and functions their numbers and errors.
func (f *body) enumerate(n *int) {
	for _, s := range f.steps {
		*n++
		s.number, s.err = *n, &injured{*n}
		for _, inner := range s.bodies {
			inner.enumerate(n)
		}
		for _, more := range []*step{s.beside, s.after} {
			if more != nil {
				*n++
				more.number, more.err = *n, &injured{*n}
			}
		}
	}
	*n++
	f.number, f.err = *n, &stop{*n}
}

// tame takes out what would end the test, or leave the order to chance.
func (f *body) tame(calm bool) {
	if calm && f.ending == panics {
		f.ending = returnError
	}
	for _, s := range f.steps {
		if s.act == group {
			if !s.together {
				for _, member := range s.bodies {
					member.calmHooks()
				}
			}
			s.aside = s.aside && !slices.ContainsFunc(s.bodies, func(m *body) bool { return m.depends(s.together) })
			if s.aside {
				for _, member := range s.bodies {
					member.stay()
					if s.hasty {
						member.leaveContextsAlone()
					}
				}
			}
		}
		for _, inner := range s.bodies {
			inner.tame(calm)
		}
	}
}

// calmHooks takes the panics out of BeforeCommit hooks: one that runs when a
// Group commits a function's work at once would end the program.
func (f *body) calmHooks() {
	for _, s := range f.steps {
		for _, inner := range s.bodies {
			if s.act == hook && s.moment == beforeCommit {
				inner.tame(true)
			}
			inner.calmHooks()
		}
	}
}

// depends reports whether it matters when the function runs beside others.
func (f *body) depends(together bool) bool {
	return slices.ContainsFunc(f.steps, func(s *step) bool {
		return s.act == inject || together && (s.failure == orphan || s.act == hook && s.moment == beforeCommit) ||
			slices.ContainsFunc(s.bodies, func(b *body) bool { return b.depends(together) })
	})
}

// leaveContextsAlone takes out what cancels a context that others have got.
func (f *body) leaveContextsAlone() {
	f.steps = slices.DeleteFunc(f.steps, func(s *step) bool { return s.act == cancel || s.act == group })
	for _, s := range f.steps {
		for _, inner := range s.bodies {
			inner.leaveContextsAlone()
		}
	}
}

// stay keeps all steps to the contexts that they get.
func (f *body) stay() {
	for _, s := range f.steps {
		s.up = 0
		for _, inner := range s.bodies {
			inner.stay()
		}
	}
}
