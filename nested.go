package dbscope

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
)

var lastID atomic.Uint64

// ID implements [driver.Session].
func (s *session) ID() uint64 {
	if s.id.Load() == 0 {
		s.id.CompareAndSwap(0, lastID.Add(1))
	}
	return s.id.Load()
}

// ID implements [driver.Session].
func (b *block) ID() uint64 { return b.s.ID() }

// Enter implements [driver.Session].
func (b *block) Enter(ctx context.Context) (driver.Conn, error) { return b.s.enter(ctx, b) }

// Exit implements [driver.Session].
func (b *block) Exit(ctx context.Context, err error) error { return b.s.Exit(ctx, err) }

// Hold implements [driver.Session].
func (b *block) Hold(rows driver.Rows) { b.s.Hold(rows) }

// Resume implements [driver.Session].
func (b *block) Resume(rows driver.Rows) error { return b.s.Resume(rows) }

// Begin implements [driver.Session].
func (b *block) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.s.nest(ctx, b, opts, savepoint)
}

// Join implements [driver.Session].
func (b *block) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.s.nest(ctx, b, opts, joining)
}

// Commit implements [driver.Session]: the block's work now belongs to the
// transaction around it.
func (b *block) Commit(ctx context.Context) error { return b.end(ctx, commit) }

// Rollback implements [driver.Session]: the block's work is undone, that of
// blocks left open in it too.
func (b *block) Rollback(ctx context.Context) error { return b.end(ctx, rollBack) }

// keep is the end of a block whose work now belongs to the transaction around it.
func (b *block) keep(ctx context.Context) error {
	if b.s.innermost() != b {
		// Kept or undone, a part of somebody's work would be misplaced.
		b.s.doomHere(fmt.Errorf("a transaction nested in the one committed is still open: %w", ErrSessionBusy))
	}
	switch err := b.s.brokenError(); {
	case err != nil && b.atomic: // only this block is undone: Atomic returns the error, so nobody loses work unknowingly
		return errs.Joined(err, blockKinds[b.kind].undo(b, ctx))
	case err != nil:
		return err
	}
	return blockKinds[b.kind].keep(b, ctx)
}

// end ends the block alone with the session, and takes it off the stack.
func (b *block) end(ctx context.Context, w wish) error {
	s := b.s
	if err := b.ended(); err != nil {
		return err
	}
	s.ending.Lock()
	defer s.ending.Unlock()
	if !s.seize(ctx) {
		return b.refuseBusy()
	}
	if b.isOver() { // seize found it expired, or somebody has ended the whole
		return s.leave(b.doneError())
	}
	bounded := ending.New(ctx, s.Timeout)
	defer bounded.Cancel()
	var err error
	if w == commit {
		err = b.keep(bounded)
	} else {
		err = blockKinds[b.kind].undo(b, bounded)
	}
	b.pop(w == commit && err == nil)
	return s.leave(err)
}

// ended is the answer to an end that comes too late.
func (b *block) ended() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if err := b.s.overError(); err != nil {
		return err
	}
	if b.over {
		return b.doneError()
	}
	return nil
}

// refuseBusy is the answer to an end while a statement runs.
func (b *block) refuseBusy() error {
	err := b.s.DB.Errorf("ending a nested transaction: %w", ErrSessionBusy)
	if b.ctx == nil || b.ctx.Err() == nil {
		b.s.doomHere(err) // its work is neither wanted nor undone
	}
	if b.atomic { // Atomic does not come again
		b.pop(false)
	}
	return err
}

// Begin implements [driver.Session].
func (s *session) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, savepoint)
}

// Join implements [driver.Session].
func (s *session) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, joining)
}

// Commit implements [driver.Session].
func (s *session) Commit(ctx context.Context) error {
	s.dropHandle()
	return s.place.endEarly(ctx, s, commit, nil)
}

// Rollback implements [driver.Session].
func (s *session) Rollback(ctx context.Context) error {
	s.dropHandle()
	return s.place.endEarly(ctx, s, rollBack, nil)
}

// dropHandle forgets the handle that ends the transaction, which may take no
// statement any more: of a hook, or after the end was refused.
func (s *session) dropHandle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle.Store(nil)
	s.handleOver = nil
}

// nest begins a block in the session, or in one of its blocks.
func (s *session) nest(ctx context.Context, in *block, opts sql.TxOptions, kind blockKind) (driver.Session, error) {
	if err := s.CannotHave(driver.TxOptions{TxOptions: opts}); err != nil {
		return nil, err
	}
	if err := s.take(ctx, in); err != nil {
		return nil, err
	}
	b := &block{s: s, kind: kind, ctx: ctx}
	if err := s.push(ctx, b); err != nil {
		return nil, err
	}
	return b, nil
}
