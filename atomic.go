package dbscope

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// The modes of [DB.Atomic]: what becomes of a transaction that is open in the
// session. Without a mode the block is a savepoint of it. With none open all
// modes are the same.
const (
	// CommitOpen commits the open transaction first; the block is then a
	// transaction of its own, durable when Atomic returns.
	CommitOpen atomicMode = iota + 1
	// RollbackOpen undoes the open transaction first; then as CommitOpen.
	RollbackOpen
	// Append makes the block continue the open transaction, and its end end
	// both.
	Append
	// Reject refuses with [ErrOpenTransaction], without a call of fn.
	Reject
)

// atomicMode is an [AtomicOption].
type atomicMode uint8

func (m atomicMode) applyToAtomic(o *atomicOptions) { o.mode = m }

type atomicOptions struct {
	unitOptions
	mode atomicMode
}

// Atomic calls fn in a block whose work is committed when fn returns nil, and
// undone on its own when it returns an error, panics or leaves by
// [runtime.Goexit].
//
// Where no transaction is open in the session, the block is one, durable when
// Atomic returns. Else it is a savepoint of the open one, and becomes durable
// with it; or what a mode says: [CommitOpen], [RollbackOpen], [Append],
// [Reject]. Inside another Atomic block, a transaction nested by a handle, or a
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
		again, err := db.core.atomic(ctx, fn, &o)
		if err == nil || !again {
			return err
		}
		if err := o.retry.wait(ctx, attempt, err); err != nil {
			return err
		}
	}
}

// atomic runs the block once, and says whether it may be run again.
func (d *database) atomic(ctx context.Context, fn func(context.Context) error, o *atomicOptions) (again bool, err error) {
	b, err := d.beginAtomic(ctx, o)
	if err != nil {
		return false, err
	}
	scope := b.slot.scope
	elsewhere := scope.usesExcept(b.slot)
	ctx = context.WithValue(ctx, blockKey{}, b)
	done := false
	defer func() {
		if !done {
			_ = b.endAtomic(ctx, false)
		}
	}()
	if err = fn(ctx); err != nil {
		err = errs.Joined(err, b.endAtomic(ctx, false))
	} else {
		err = b.endAtomic(ctx, true)
	}
	done = true
	if err == nil || o.retry == nil || !b.alone {
		return false, err
	}
	return b.result == driver.RolledBack && b.mayWork(err) && scope.usesExcept(b.slot) == elsewhere, err
}

// usesExcept counts the statements of the scope on all DBs but one.
func (s *Scope) usesExcept(one *slot) (n int64) {
	for sl := s.first.Load(); sl != nil; sl = sl.next.Load() {
		if sl != one {
			n += sl.uses.Load()
		}
	}
	return n
}

// beginAtomic finds or makes the transaction that the mode asks for, and begins
// a block in it.
func (d *database) beginAtomic(ctx context.Context, o *atomicOptions) (*block, error) {
	ss, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	if (o.mode == CommitOpen || o.mode == RollbackOpen) && ss.slot.scope.group == nil {
		if err := d.endOpen(ctx, o.mode == CommitOpen); err != nil {
			return nil, err
		}
		if ss, err = d.find(ctx); err != nil {
			return nil, err
		}
	}
	for {
		if err = ss.take(ctx, nil); err == nil {
			break
		}
		if !ss.replaced() {
			return nil, err
		}
		if ss, err = d.find(ctx); err != nil {
			return nil, err
		}
	}
	b := &block{session: ss, atomic: true, outer: contextBlock(ctx)}
	if err := ss.admitMode(o); err != nil {
		return nil, ss.leave(err)
	}
	if !ss.isPart() && (!ss.begun || o.mode == Append) {
		b.kind = owner
	}
	if b.kind == owner && !ss.begun {
		ss.adopt(o)
		b.alone = !ss.slot.scope.awaits(ss)
	}
	ss.slot.atomic.Store(true)
	return b, ss.push(ctx, b)
}

// replaced reports whether somebody has ended the session, so that the scope
// has, or will have, another one.
func (s *session) replaced() bool {
	if !s.isOver() || s.slot.scope.ended.Load() {
		return false
	}
	s.slot.current.CompareAndSwap(s, nil)
	return true
}

// isOpen reports whether there is something to end: a transaction that is open,
// or being opened, or a block, or what only a rollback is allowed for.
func (s *session) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase != over && (s.begun || s.phase != idle || len(s.blocks) > 0 || s.broken != nil)
}

// admitMode refuses what the open transaction does not allow. The caller has
// taken the session.
func (s *session) admitMode(o *atomicOptions) error {
	part := s.isPart()
	switch {
	case !s.begun && !part:
		return nil
	case part && o.mode != 0:
		return fmt.Errorf("dbscope: %s: %w: an Atomic block in another one, or in a Group that commits together, "+
			"cannot end the outer transaction, and takes no mode", s.db.name, ErrOpenTransaction)
	case o.mode == Reject:
		return fmt.Errorf("dbscope: %s: %w, and the Atomic block was told to reject it", s.db.name, ErrOpenTransaction)
	}
	return s.cannotHave(o.tx)
}

// isPart reports whether a block that begins now is a part of something, though
// nothing was done yet.
func (s *session) isPart() bool { return s.innermost() != nil || s.slot.scope.group != nil }

// adopt gives the transaction to come the block's options.
func (s *session) adopt(o *atomicOptions) {
	s.opts.tx.ReadOnly = s.opts.tx.ReadOnly || o.tx.ReadOnly
	s.opts.tx.Deferrable = s.opts.tx.Deferrable || o.tx.Deferrable
	if o.tx.Isolation != 0 {
		s.opts.tx.Isolation = o.tx.Isolation
	}
}

// endAtomic ends the block, and with it the transaction that is its own.
func (b *block) endAtomic(ctx context.Context, commit bool) error {
	switch {
	case b.kind == owner:
		return b.endEarly(ctx, commit, b)
	case commit:
		return b.Commit(ctx)
	default:
		return b.Rollback(ctx)
	}
}
