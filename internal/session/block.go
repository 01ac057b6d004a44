package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/state"
	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/observe"
)

// Block is a transaction nested in a session's. Blocks end in reverse order of
// their beginning.
//
// A block whose context has ended will be undone: database/sql does that from
// a goroutine of its own, at some later time. So that nothing slips into the
// block meanwhile, the session undoes it before it does anything else.
type Block struct {
	Session *Session
	kind    blockKind
	mark    string          // the savepoint's name
	ctx     context.Context // the block is undone when this ends; nil for one that no context ends
	atomic  bool            // begun by Atomic: its statements come with its context
	Alone   bool            // its transaction was begun by it, and no hook from before waits for that
	Below   *Block          // the block around it in this session
	Outer   *Block          // the Atomic block around its context, perhaps in another session
	depth   int             // how many blocks of the session are open, itself included
	Joins   atomic.Int32    // how many functions of Join run in it

	// The session's mu guards these.
	over bool
	why  error // where its context has ended: the error of any later use
}

// blockKind says how a block is kept and undone:
//
//	kind       its end, kept                    undone
//	savepoint  RELEASE SAVEPOINT                ROLLBACK TO SAVEPOINT
//	joining    nothing                          what is around it can only be undone
//	fromStart  nothing                          the whole transaction is undone, and begins anew
//	owner      is the transaction's, see place
//
// fromStart is a savepoint that was begun when nothing was done in the transaction.
type blockKind uint8

const (
	savepoint blockKind = iota
	joining
	fromStart
	owner
)

var blockKinds = [...]struct {
	keep, undo func(*Block, context.Context) error
}{
	savepoint: {(*Block).releaseSavepoint, (*Block).rollbackTo},
	joining:   {(*Block).nothing, (*Block).doomOuter},
	fromStart: {(*Block).nothing, (*Block).restart},
	owner:     {(*Block).nothing, (*Block).nothing},
}

func (b *Block) nothing(context.Context) error { return nil }

func (b *Block) releaseSavepoint(ctx context.Context) error {
	ctx, op := b.watched(ctx, observe.ReleaseSavepoint)
	err := b.Session.Conn.ReleaseSavepoint(ctx, b.mark)
	op.End(observe.None, err)
	if err != nil {
		b.Session.fail(b.Session.Check(ctx, err), err)
		b.Session.DoomHere(err)
		return b.Session.Broken()
	}
	return nil
}

func (b *Block) rollbackTo(ctx context.Context) error {
	s := b.Session
	if s.gone() {
		return nil // the server has undone more than that
	}
	ctx, op := b.watched(ctx, observe.RollbackTo)
	err := s.Conn.RollbackTo(ctx, b.mark)
	op.End(observe.None, err)
	if err != nil {
		s.fail(driver.Lost, err)
		return s.Broken()
	}
	if s.state() == state.Aborted {
		s.lift(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.BlockUndone(b.depth)
	return nil
}

func (b *Block) doomOuter(context.Context) error {
	b.Session.DoomHere(errors.New("a transaction that joined it was rolled back"))
	return nil
}

// restart undoes a transaction in which nothing was done but what is undone
// now: the next statement begins anew, whatever became of the connection.
func (b *Block) restart(ctx context.Context) error {
	s := b.Session
	var err error
	if s.begun {
		undoes, op := s.Watch.Step(ctx, observe.Rollback, "")
		err = s.rollBack(undoes)
		op.End(observe.RolledBack, err)
		s.Watch.Over(driver.RolledBack, err)
		if err != nil || s.state() == state.Lost {
			s.Release(false)
		}
	}
	s.LeaveHost()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun, s.condition = false, state.Condition{}
	return err
}

// BlockKey is the key of the innermost block in the context of an Atomic block.
type BlockKey struct{}

// BlockOf returns the innermost Atomic block of the context.
func BlockOf(ctx context.Context) *Block {
	b, _ := unit.Value(ctx, BlockKey{}).(*Block)
	return b
}

// IsOver reports whether the block has ended.
func (b *Block) IsOver() bool {
	b.Session.mu.Lock()
	defer b.Session.mu.Unlock()
	return b.over
}

// top returns the innermost block. The caller holds mu.
func (s *Session) top() *Block {
	if len(s.blocks) == 0 {
		return nil
	}
	return s.blocks[len(s.blocks)-1]
}

// admitBlock says whether a statement of b may run now; nil is the whole
// session, whose statements are part of the innermost block. The caller holds
// mu.
func (s *Session) admitBlock(ctx context.Context, b *Block) error {
	top := s.top()
	switch {
	case b == nil:
		return s.admitContext(ctx, top)
	case b.over:
		return b.doneError()
	case b != top:
		return s.DB.Errorf("a transaction nested in this one is still open: %w", errs.ErrSessionBusy)
	}
	return nil
}

// admitContext refuses a context that is not the innermost Atomic block's: its
// statement would be misplaced. The caller holds mu.
func (s *Session) admitContext(ctx context.Context, top *Block) error {
	if !s.Place.HasBlocks() {
		return nil
	}
	for top != nil && !top.atomic {
		top = top.Below
	}
	in := BlockOf(ctx)
	for in != nil && in.Session.Place != s.Place {
		in = in.Outer
	}
	switch {
	case in == top:
		return nil
	case in != nil && in.over:
		return in.doneError()
	case !s.Place.Owns(ctx):
		return nil // a handle was given some other context
	}
	return s.DB.Errorf("an Atomic block is open: use the context that it passes to its function, "+
		"or wait until it is over: %w", errs.ErrSessionBusy)
}

func (b *Block) doneError() error {
	if b.why != nil {
		return b.Session.DB.Errorf("the nested transaction was undone: %w", b.why)
	}
	return b.Session.DB.Errorf("the nested transaction is over: %w", sql.ErrTxDone)
}

// expired returns the outermost block whose context has ended. The caller
// holds mu.
func (s *Session) expired() *Block {
	if s.timed == 0 {
		return nil
	}
	for _, b := range s.blocks {
		if b.ctx != nil && b.ctx.Err() != nil {
			return b
		}
	}
	return nil
}

// undoExpired undoes the blocks whose contexts have ended.
func (s *Session) undoExpired(ctx context.Context) {
	s.mu.Lock()
	b := s.expired()
	if b != nil {
		for _, inside := range s.blocks[slices.Index(s.blocks, b):] {
			inside.why = errs.Interrupted(b.ctx)
		}
	}
	s.mu.Unlock()
	if b == nil {
		return
	}
	bounded := ending.New(ctx, s.Timeout)
	defer bounded.Cancel()
	_ = blockKinds[b.kind].undo(b, bounded) // a failure breaks the session, and so is told
	b.Pop(false)
}

// takeAfterExpired admits a statement of a session that was taken once blocks that
// have expired are out of its way.
func (s *Session) takeAfterExpired(ctx context.Context, b *Block) error {
	s.undoExpired(ctx)
	err := s.Broken()
	if err == nil {
		s.mu.Lock()
		err = s.admitBlock(ctx, b)
		s.mu.Unlock()
	}
	if err != nil {
		return s.leave(err)
	}
	return nil
}

// push begins a block in a session that is taken, and leaves it.
func (s *Session) push(ctx context.Context, b *Block) error {
	if err := s.Broken(); err != nil {
		return s.leave(err)
	}
	var err error
	switch {
	case b.kind != savepoint:
	case !s.begun:
		b.kind = fromStart
	default:
		s.marks++
		b.mark = fmt.Sprintf("dbscope_%d", s.marks)
		sends, op := b.watched(ctx, observe.Savepoint)
		err = s.Conn.Savepoint(sends, b.mark)
		op.End(observe.None, err)
	}
	if err == nil {
		s.mu.Lock()
		b.Below = s.top()
		s.blocks = append(s.blocks, b)
		b.depth = len(s.blocks)
		if b.ctx != nil {
			s.timed++
		}
		s.mu.Unlock()
	}
	return s.Exit(ctx, err)
}

// Pop takes the block, and what is left open in it, off the stack.
func (b *Block) Pop(kept bool) {
	s := b.Session
	for !b.IsOver() {
		s.mu.Lock()
		top := s.top()
		if top != nil {
			s.blocks = s.blocks[:len(s.blocks)-1]
			s.offStack(top)
		}
		s.mu.Unlock()
		if top == nil {
			return
		}
		s.Place.BlockEnded(top, kept)
	}
}

// PopOwner takes the block whose end is the transaction's off the stack. Where a
// block inside it is open, that stays, and the commit is refused.
func (s *Session) PopOwner(b *Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.top() == b {
		s.offStack(b)
		s.blocks = s.blocks[:0]
	}
}

// offStack notes that a block is off the stack. The caller holds mu.
func (s *Session) offStack(b *Block) {
	b.over = true
	if b.ctx != nil {
		s.timed--
	}
}

// gone reports whether the transaction no longer exists on the server.
func (s *Session) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.condition.Gone()
}

func (s *Session) state() state.Kind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.condition.Kind
}

func (s *Session) innermost() *Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.top()
}
