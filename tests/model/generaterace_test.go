package model_test

import (
	"slices"

	"pgregory.net/rapid"
)

// addRace makes the last thing that the function does a block or a unit beside
// whose end another goroutine does something: ends the scope or its transaction, or
// runs a statement. Perhaps all that is in further blocks, units and Groups.
func (g *generator) addRace(t *rapid.T, main *body) {
	f := main
	for level := 1; level < depth-1 && oneInThree.Draw(t, "further in"); level++ {
		s := g.container(t, outerActs.Draw(t, "act"), level)
		f.steps = append(f.steps, s)
		f = s.bodies[len(s.bodies)-1]
	}
	s := g.container(t, raceActs.Draw(t, "act"), depth-1)
	s.beside = &step{act: besideActs.Draw(t, "beside"), db: rapid.IntRange(0, 1).Draw(t, "db")}
	s.late = oneInFour.Draw(t, "late")
	if s.act != run {
		s.after = &step{act: store, db: s.db}
	}
	f.steps = append(f.steps, s)
	main.plainHooks(!g.kind.oneWriter && !main.injects())
	main.wait()
}

// container is a step whose functions always end at once after their last step.
func (g *generator) container(t *rapid.T, a act, level int) *step {
	s := &step{act: a, db: rapid.IntRange(0, 1).Draw(t, "db"), bodies: []*body{g.body(t, level, someEnding)}}
	switch a {
	case atomicBlock:
		s.mode = someMode.Draw(t, "mode")
	case group:
		s.together = rapid.Bool().Draw(t, "together")
		for range rapid.IntRange(0, 2).Draw(t, "further members") {
			s.bodies = append(s.bodies, g.body(t, level+1, someEnding))
		}
	}
	s.returns, s.recovers = oneInThree.Draw(t, "returns"), rapid.Bool().Draw(t, "recovers")
	return s
}

// plainHooks makes all hooks run after an end, and do nothing that another
// goroutine could come between: they store at most.
func (f *body) plainHooks(store bool) {
	for _, s := range f.steps {
		for _, inner := range s.bodies {
			inner.plainHooks(store)
		}
		if s.act != hook {
			continue
		}
		if s.moment == beforeCommit {
			s.moment = afterCommit
		}
		hook := s.bodies[0]
		hook.ending = returnNil
		hook.steps = slices.DeleteFunc(hook.steps, func(s *step) bool { return !s.isPlain() || !store })
		for _, s := range hook.steps {
			s.up, s.returns = 0, false
		}
	}
}

func (s *step) isPlain() bool { return s.act == store && s.failure == sound }

// injects reports whether a fault may be there for whoever comes first.
func (f *body) injects() bool {
	return slices.ContainsFunc(f.steps, func(s *step) bool {
		return s.act == inject || slices.ContainsFunc(s.bodies, (*body).injects)
	})
}

// wait makes the functions of all Groups wait for each other.
func (f *body) wait() {
	for _, s := range f.steps {
		s.hasty = false
		for _, inner := range s.bodies {
			inner.wait()
		}
	}
}
