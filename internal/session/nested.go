package session

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
func (s *Session) ID() uint64 {
	if s.id.Load() == 0 {
		s.id.CompareAndSwap(0, lastID.Add(1))
	}
	return s.id.Load()
}

// ID implements [driver.Session].
func (b *Block) ID() uint64 { return b.Session.ID() }

// Enter implements [driver.Session].
func (b *Block) Enter(ctx context.Context) (driver.Conn, error) { return b.Session.enter(ctx, b) }

// Exit implements [driver.Session].
func (b *Block) Exit(ctx context.Context, err error) error { return b.Session.Exit(ctx, err) }

// Hold implements [driver.Session].
func (b *Block) Hold(rows driver.Rows) { b.Session.Hold(rows) }

// Resume implements [driver.Session].
func (b *Block) Resume(rows driver.Rows) error { return b.Session.Resume(rows) }

// Begin implements [driver.Session].
func (b *Block) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.Session.nest(ctx, b, opts, savepoint)
}

// Join implements [driver.Session].
func (b *Block) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.Session.nest(ctx, b, opts, joining)
}

// Commit implements [driver.Session]: the block's work now belongs to the
// transaction around it.
func (b *Block) Commit(ctx context.Context) error { return b.end(ctx, Commit) }

// Rollback implements [driver.Session]: the block's work is undone, that of
// blocks left open in it too.
func (b *Block) Rollback(ctx context.Context) error { return b.end(ctx, RollBack) }

// keep is the end of a block whose work now belongs to the transaction around it.
func (b *Block) keep(ctx context.Context) error {
	if b.Session.innermost() != b {
		// Kept or undone, a part of somebody's work would be misplaced.
		b.Session.DoomHere(fmt.Errorf("a transaction nested in the one committed is still open: %w", errs.ErrSessionBusy))
	}
	switch err := b.Session.Broken(); {
	case err != nil && b.atomic: // only this block is undone: Atomic returns the error, so nobody loses work unknowingly
		return errs.Joined(err, blockKinds[b.kind].undo(b, ctx))
	case err != nil:
		return err
	}
	return blockKinds[b.kind].keep(b, ctx)
}

// end ends the block alone with the session, and takes it off the stack.
func (b *Block) end(ctx context.Context, w Wish) error {
	s := b.Session
	if err := b.ended(); err != nil {
		return err
	}
	s.Ending.Lock()
	defer s.Ending.Unlock()
	if !s.Seize(ctx) {
		return b.refuseBusy()
	}
	if b.IsOver() { // Seize found it expired, or somebody has ended the whole
		return s.leave(b.doneError())
	}
	bounded := ending.New(ctx, s.Timeout)
	defer bounded.Cancel()
	var err error
	if w == Commit {
		err = b.keep(bounded)
	} else {
		err = blockKinds[b.kind].undo(b, bounded)
	}
	b.Pop(w == Commit && err == nil)
	return s.leave(err)
}

// ended is the answer to an end that comes too late.
func (b *Block) ended() error {
	b.Session.mu.Lock()
	defer b.Session.mu.Unlock()
	if err := b.Session.OverError(); err != nil {
		return err
	}
	if b.over {
		return b.doneError()
	}
	return nil
}

// refuseBusy is the answer to an end while a statement runs.
func (b *Block) refuseBusy() error {
	err := b.Session.DB.Errorf("ending a nested transaction: %w", errs.ErrSessionBusy)
	if b.ctx == nil || b.ctx.Err() == nil {
		b.Session.DoomHere(err) // its work is neither wanted nor undone
	}
	if b.atomic { // Atomic does not come again
		b.Pop(false)
	}
	return err
}

// Begin implements [driver.Session].
func (s *Session) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, savepoint)
}

// Join implements [driver.Session].
func (s *Session) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, joining)
}

// Commit implements [driver.Session].
func (s *Session) Commit(ctx context.Context) error {
	s.dropHandle()
	return s.Place.EndEarly(ctx, s, Commit, nil, nil)
}

// Rollback implements [driver.Session].
func (s *Session) Rollback(ctx context.Context) error {
	s.dropHandle()
	return s.Place.EndEarly(ctx, s, RollBack, nil, nil)
}

// dropHandle forgets the handle that ends the transaction, which may take no
// statement any more: of a hook, or after the end was refused.
func (s *Session) dropHandle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle.Store(nil)
	s.handleOver = nil
}

// nest begins a block in the session, or in one of its blocks.
func (s *Session) nest(ctx context.Context, in *Block, opts sql.TxOptions, kind blockKind) (driver.Session, error) {
	if err := s.CannotHave(driver.TxOptions{TxOptions: opts}); err != nil {
		return nil, err
	}
	if err := s.Take(ctx, in); err != nil {
		return nil, err
	}
	b := &Block{Session: s, kind: kind, ctx: ctx}
	if err := s.push(ctx, b); err != nil {
		return nil, err
	}
	return b, nil
}
