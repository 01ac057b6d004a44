package model_test

import (
	"context"
	"errors"
)

// other is a goroutine whose statement runs, or whose rows are open.
type other struct {
	step  *step
	goOn  func()
	ended chan error
}

// other begins what another goroutine does: it returns when the statement runs, or
// the rows are open, or that was refused.
func (r *reality) other(p, at *place, s *step) error {
	ctx, db := context.WithoutCancel(at.ctx), r.dbs[s.db]
	o := &other{step: s, ended: make(chan error, 1)}
	begun := make(chan error, 1)
	switch {
	case s.act == read:
		goOn := make(chan struct{})
		o.goOn = func() { close(goOn) }
		go func() {
			rest, err := db.read(ctx, s)
			if begun <- err; err == nil {
				<-goOn
				o.ended <- rest()
			}
		}()
		if err := <-begun; err != nil {
			return err
		}
	case !s.lingers:
		go func() { begun <- r.statement(ctx, s) }()
		return <-begun
	default:
		reached, goOn := db.hold(s)
		o.goOn = goOn
		go func() { o.ended <- r.statement(ctx, s) }()
		if !reached(o.ended) {
			goOn()
			return <-o.ended
		}
	}
	p.trace.others = append(p.trace.others, o)
	return nil
}

// statement stores, or reads all rows of a query.
func (r *reality) statement(ctx context.Context, s *step) error {
	if !s.query {
		return r.dbs[s.db].store(ctx, s)
	}
	rest, err := r.dbs[s.db].read(ctx, s)
	if err != nil {
		return err
	}
	return rest()
}

// await lets the first goroutine go on, and returns its error.
func (t *trace) await() error {
	if len(t.others) == 0 {
		return nil
	}
	o := t.others[0]
	t.others = t.others[1:]
	o.goOn()
	return <-o.ended
}

func (t *trace) awaitAll() {
	for len(t.others) > 0 {
		s := t.others[0].step
		t.add(s, "late").err = t.await()
	}
}

// nest runs a function in a transaction that a handle nests.
func (r *reality) nest(p, at *place, s *step) (err error, asIs bool) {
	inner := p.in(at.ctx)
	var race race
	defer race.over()
	end, err := r.dbs[s.db].nest(context.WithoutCancel(inner.ctx))
	if err != nil {
		return err, false
	}
	start := race.prepare(r, p, inner, s)
	returned := false
	defer func() {
		if !returned {
			start()
			_ = end(false)
		}
	}()
	own := r.body(inner, s.bodies[0])
	returned = true
	start()
	err = end(own == nil)
	switch {
	case own == nil:
		return err, false
	case err == nil:
		return own, true
	}
	return errors.Join(own, err), false
}
