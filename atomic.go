package dbscope

import (
	"context"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// Atomic calls fn in a block whose work is committed when fn returns nil, and
// undone on its own when it returns an error, panics or leaves by
// [runtime.Goexit].
//
// Where no transaction is open in the session, the block is one, durable when
// Atomic returns. Else it is a savepoint of the open one, and becomes durable
// with it; or what a mode says: [CommitOpen], [RollbackOpen], [ContinueOpen],
// [RefuseOpen]. Inside another Atomic block, a transaction nested by a handle, or a
// Group with [Group.CommitTogether], it is always a savepoint, and a mode is an
// error: [ErrOpenTransaction]. So
// are [DB.Commit], [DB.Rollback] and options such as [Isolation] that the open
// transaction does not have.
//
// fn must use the context it is given: a statement with another one of the same
// scope is refused while the block is open, as are those of other goroutines
// outside it ([ErrSessionBusy]), since they would be undone with the block, or
// it with them. Only statements on this session belong to the block: other
// databases go their own way.
//
// Atomic returns fn's error as it is, a failed rollback joined to it, or that
// of the commit. It blocks while fn and the end do; the cancellation of ctx
// does not stop the end. Other errors: [ErrNoScope], [ErrScopeEnded],
// [ErrRolledBack] where the open transaction is lost already.
func (db *DB[H]) Atomic(ctx context.Context, fn func(context.Context) error, opts ...AtomicOption) error {
	var o atomicOptions
	for _, opt := range opts {
		opt.applyToAtomic(&o)
	}
	for attempt := 1; ; attempt++ {
		again, s, err := db.core.atomic(ctx, fn, &o)
		if err == nil || !again {
			return err
		}
		if err := s.waitForNext(ctx, o.retry, attempt, err); err != nil {
			return err
		}
	}
}

// atomic runs the block once, and says whether it may be run again, and of what scope it
// is.
func (d *database) atomic(ctx context.Context, fn func(context.Context) error, o *atomicOptions) (again bool, s *Scope, err error) {
	b, err := d.beginAtomic(ctx, o)
	if err != nil {
		return false, nil, err
	}
	sl := slotOf(b.Session)
	elsewhere := sl.scope.usesExcept(sl)
	done := false
	defer func() {
		if !done {
			_ = b.EndAtomic(ctx, session.RollBack)
		}
	}()
	ctx = newBlockContext(ctx, b, sl.scope)
	if err = fn(ctx); err != nil {
		err = errs.Joined(err, b.EndAtomic(ctx, session.RollBack))
	} else {
		err = b.EndAtomic(ctx, session.Commit)
	}
	done = true
	if err == nil || o.retry == nil || !b.Alone {
		return false, nil, err
	}
	r := b.Session.Ended()
	r.Err = err
	return r.Outcome == driver.RolledBack && b.Session.MayWork(r) && sl.scope.usesExcept(sl) == elsewhere, sl.scope, err
}

// blockContext is the context of an Atomic block. Of one directly in another's only
// the innermost is kept, and it knows the scope too, so that blocks deep in one
// another cost no more than others.
type blockContext struct {
	context.Context
	block *session.Block
	scope *Scope
}

func newBlockContext(ctx context.Context, b *session.Block, s *Scope) *blockContext {
	if around, is := ctx.(*blockContext); is {
		ctx = around.Context
	}
	return &blockContext{ctx, b, s}
}

// Value implements [context.Context].
func (c *blockContext) Value(key any) any {
	switch key.(type) {
	case session.BlockKey:
		return c.block
	case scopeKey:
		return c.scope
	}
	return c.Context.Value(key)
}

// usesExcept counts the statements of the scope on all DBs but one.
func (s *Scope) usesExcept(one *slot) (n int64) {
	for sl := range s.slots() {
		if sl != one {
			n += sl.uses.Load()
		}
	}
	return n
}

// beginAtomic finds or makes the transaction that the mode asks for, and begins
// a block in it.
func (d *database) beginAtomic(ctx context.Context, o *atomicOptions) (*session.Block, error) {
	ss, err := d.takeForAtomic(ctx, o)
	if err != nil {
		return nil, err
	}
	sl := slotOf(ss)
	sl.blocks.Store(true)
	sl.scope.blocks.Store(true)
	mode := atomicModes[o.mode]
	return ss.BeginAtomic(ctx, session.Atomic{
		TX: o.tx, Mode: o.mode != 0, Continues: mode.continues, Refuses: mode.refuses,
		Part: sl.scope.isPart(), Awaited: sl.scope.awaited(sl),
	})
}

// takeForAtomic takes the session in which the block is to begin, after the open
// transaction has ended where the mode says so.
func (d *database) takeForAtomic(ctx context.Context, o *atomicOptions) (*session.Session, error) {
	if int(o.mode) >= len(atomicModes) {
		return nil, d.Errorf("Atomic has no mode %d: pass CommitOpen or one of its siblings", o.mode)
	}
	mode := atomicModes[o.mode]
	if s := scopeOf(ctx); mode.ends && (s == nil || !s.together()) {
		if err := d.endOpen(ctx, session.WishTo(mode.commits)); err != nil {
			return nil, err
		}
	}
	for {
		ss, err := d.find(ctx)
		if err != nil {
			return nil, err
		}
		if err = ss.Take(ctx, nil); err == nil || !replaced(ss) {
			return ss, err
		}
	}
}

// replaced reports whether somebody has ended the session, so that the scope
// has, or will have, another one.
func replaced(ss *session.Session) bool {
	if !ss.IsOver() || ss.Place.UnitEnded() != nil {
		return false
	}
	slotOf(ss).current.CompareAndSwap(ss, nil)
	return true
}
