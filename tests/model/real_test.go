package model_test

import (
	"context"
	"errors"
	"sync"

	"github.com/dbscope/dbscope"
)

// reality runs programs on two databases.
type reality struct{ dbs [2]database }

// place is a function's context, and what the program remembers of it.
type place struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	outer  *place
	trace  *trace
}

func (p *place) at(up int) *place {
	for ; up > 0 && p.outer != nil; up-- {
		p = p.outer
	}
	return p
}

// in is the place of a function that is called at p with ctx.
func (p *place) in(ctx context.Context) *place {
	ctx, cancel := context.WithCancelCause(ctx)
	return &place{ctx: ctx, cancel: cancel, outer: p, trace: p.trace}
}

// hookErrors collects what OnHookError is told.
type hookErrors struct {
	mu     sync.Mutex
	counts []int
}

func (h *hookErrors) option() dbscope.Option {
	return dbscope.OnHookError(func(_ context.Context, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		each, _ := err.(interface{ Unwrap() []error })
		h.counts = append(h.counts, len(each.Unwrap()))
	})
}

// program runs the program as the model has annotated it.
func (r *reality) program(ctx context.Context, p *program) *trace {
	t := &trace{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := &place{ctx: ctx, trace: t}
	main := &step{act: run, recovers: true, bodies: []*body{p.main}}
	_ = r.step(start, main)
	t.awaitAll()
	for _, e := range t.events {
		if e.step == main {
			e.step = nil
		}
	}
	return t
}

// step makes one call, and notes what it returned.
func (r *reality) step(p *place, s *step) (err error) {
	if s.skipped {
		return nil
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		p.trace.add(s, "panics")
		if s.recovers {
			_ = mustBeStop(recover())
		}
	}()
	err, asIs := r.call(p, p.at(s.up), s)
	returned = true
	e := p.trace.add(s, "returns")
	e.err, e.asIs = err, asIs
	return err
}

// mustBeStop lets no panics pass but the program's own.
func mustBeStop(v any) *stop {
	if s, ok := v.(*stop); ok {
		return s
	}
	panic(v)
}

func (r *reality) call(p, at *place, s *step) (err error, asIs bool) {
	ctx, db := at.ctx, r.dbs[s.db]
	switch s.act {
	case store:
		err = db.store(ctx, s)
		if errors.Is(err, context.Canceled) && !errors.Is(err, context.Cause(ctx)) {
			err = errors.New("Canceled, without the cause")
		}
		return err, false
	case atomicBlock:
		return r.atomic(p, at, s)
	case nest:
		return r.nest(p, at, s)
	case linger, read:
		return r.other(p, at, s), false
	case await:
		return p.trace.await(), false
	case run:
		return r.run(p, at, s)
	case group:
		return r.group(p, at, s), false
	case hook:
		return r.hook(p, at, s), false
	case commitDB:
		return db.Commit(ctx), false
	case rollbackDB:
		return db.Rollback(ctx), false
	case releaseDB:
		return db.Release(ctx), false
	case markRollback:
		return dbscope.MarkRollback(ctx), false
	case commitScope, rollbackScope:
		scope, ok := dbscope.FromContext(ctx)
		switch {
		case !ok:
			return dbscope.ErrScopeEnded, false
		case s.act == commitScope:
			return scope.Commit(ctx), false
		}
		return scope.Rollback(ctx), false
	case cancel:
		at.cancel(s.err)
	case inject:
		db.inject(s)
	}
	return nil, false
}

// body runs a function's steps.
func (r *reality) body(p *place, f *body) error {
	for _, s := range f.steps {
		if err := r.step(p, s); err != nil && s.returns {
			return err
		}
	}
	switch f.ending {
	case returnError:
		return f.err
	case panics:
		panic(f.err)
	}
	return nil
}

var modes = map[mode][]dbscope.AtomicOption{
	commitOpen:   {dbscope.CommitOpen},
	rollbackOpen: {dbscope.RollbackOpen},
	appendOpen:   {dbscope.ContinueOpen},
	reject:       {dbscope.RefuseOpen},
}

func (r *reality) atomic(p, at *place, s *step) (err error, asIs bool) {
	inner := p.in(at.ctx)
	var own error
	var race race
	defer race.over()
	err = r.dbs[s.db].Atomic(inner.ctx, func(ctx context.Context) error {
		in := inner.derived(ctx)
		defer race.prepare(r, p, in, s)()
		own = r.body(in, s.bodies[0])
		return own
	}, modes[s.mode]...)
	return err, own != nil && err == own //nolint:errorlint // whether it is the same
}

// derived is the place with the context that was made of its own.
func (p *place) derived(ctx context.Context) *place {
	d := *p
	d.ctx = ctx
	return &d
}

func (r *reality) run(p, at *place, s *step) (err error, asIs bool) {
	inner := p.in(at.ctx)
	if p.cancel == nil {
		inner.outer = nil // it is the main function
	}
	var told hookErrors
	defer p.trace.reportLater(s, &told)
	var own error
	var race race
	defer race.over()
	err = dbscope.Run(inner.ctx, func(ctx context.Context) error {
		in := inner.derived(ctx)
		defer race.prepare(r, p, in, s)()
		own = r.body(in, s.bodies[0])
		return own
	}, told.option())
	return err, own != nil && err == own //nolint:errorlint // whether it is the same
}

func (t *trace) reportLater(s *step, told *hookErrors) { t.report(s, told.counts) }

func (r *reality) hook(p, at *place, s *step) error {
	fn := func(ctx context.Context) error {
		p.trace.add(s, "runs")
		inner := p.in(ctx)
		return r.body(inner, s.bodies[0])
	}
	register := map[moment]func(context.Context, func(context.Context) error) error{
		beforeCommit: dbscope.BeforeCommit, afterCommit: dbscope.AfterCommit, afterRollback: dbscope.AfterRollback,
	}
	if db := r.dbs[s.db]; !s.ofScope {
		register = map[moment]func(context.Context, func(context.Context) error) error{
			beforeCommit: db.BeforeCommit, afterCommit: db.AfterCommit, afterRollback: db.AfterRollback,
		}
	}
	return register[s.moment](at.ctx, fn)
}

func (r *reality) group(p, at *place, s *step) error {
	aside := s.aside && !s.sequential
	ev := &event{step: s, what: "members"}
	var told hookErrors
	g := dbscope.NewGroup(at.ctx, told.option())
	if !aside {
		g.SetLimit(1)
	}
	if s.together {
		g.CommitTogether()
	}
	var through sync.WaitGroup
	through.Add(len(s.bodies))
	for _, f := range s.bodies {
		outer := p
		if aside {
			outer = &place{trace: &trace{}}
			ev.members = append(ev.members, outer.trace)
		}
		g.Go(func(ctx context.Context) (err error) {
			defer func() {
				if through.Done(); aside && !s.hasty {
					through.Wait()
				}
			}()
			defer func() {
				if v := recover(); v != nil {
					err = mustBeStop(v)
				}
			}()
			inner := outer.in(ctx)
			if aside {
				inner.outer = nil
			}
			return r.body(inner, f)
		})
	}
	defer func() {
		for _, member := range ev.members {
			member.awaitAll()
		}
		if aside {
			p.trace.events = append(p.trace.events, ev)
		}
		p.trace.report(s, told.counts)
	}()
	return g.Wait()
}
