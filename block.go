package dbscope

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
)

// block is a transaction nested in a session's. Blocks end in reverse order of
// their beginning.
//
// A block whose context has ended will be undone: database/sql does that from
// a goroutine of its own, at some later time. So that nothing slips into the
// block meanwhile, the session undoes it before it does anything else.
type block struct {
	s      *session
	kind   blockKind
	mark   string          // the savepoint's name
	ctx    context.Context // the block is undone when this ends; nil for one that no context ends
	atomic bool            // begun by Atomic: its statements come with its context
	alone  bool            // its transaction was begun by it, and no hook from before waits for that
	below  *block          // the block around it in this session
	outer  *block          // the Atomic block around its context, perhaps in another session
	depth  int             // how many blocks of the session are open, itself included
	joins  atomic.Int32    // how many functions of Join run in it

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
	keep, undo func(*block, context.Context) error
}{
	savepoint: {(*block).releaseSavepoint, (*block).rollbackTo},
	joining:   {(*block).nothing, (*block).doomOuter},
	fromStart: {(*block).nothing, (*block).restart},
	owner:     {(*block).nothing, (*block).nothing},
}

func (b *block) nothing(context.Context) error { return nil }

func (b *block) releaseSavepoint(ctx context.Context) error {
	if err := b.s.Conn.ReleaseSavepoint(ctx, b.mark); err != nil {
		b.s.fail(b.s.Check(ctx, err), err)
		b.s.doomHere(err)
		return b.s.brokenError()
	}
	return nil
}

func (b *block) rollbackTo(ctx context.Context) error {
	s := b.s
	if s.gone() {
		return nil // the server has undone more than that
	}
	if err := s.Conn.RollbackTo(ctx, b.mark); err != nil {
		s.fail(driver.Lost, err)
		return s.brokenError()
	}
	if s.state() == state.Aborted {
		s.lift(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.BlockUndone(b.depth)
	return nil
}

func (b *block) doomOuter(context.Context) error {
	b.s.doomHere(errors.New("a transaction that joined it was rolled back"))
	return nil
}

// restart undoes a transaction in which nothing was done but what is undone
// now: the next statement begins anew, whatever became of the connection.
func (b *block) restart(ctx context.Context) error {
	s := b.s
	var err error
	if s.begun {
		err = s.rollBack(ctx)
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

type blockKey struct{}

// contextBlock returns the innermost Atomic block of the context.
func contextBlock(ctx context.Context) *block {
	b, _ := unit.Value(ctx, blockKey{}).(*block)
	return b
}

func (b *block) isOver() bool {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return b.over
}

// top returns the innermost block. The caller holds mu.
func (s *session) top() *block {
	if len(s.blocks) == 0 {
		return nil
	}
	return s.blocks[len(s.blocks)-1]
}

// admitBlock says whether a statement of b may run now; nil is the whole
// session, whose statements are part of the innermost block. The caller holds
// mu.
func (s *session) admitBlock(ctx context.Context, b *block) error {
	top := s.top()
	switch {
	case b == nil:
		return s.admitContext(ctx, top)
	case b.over:
		return b.doneError()
	case b != top:
		return s.DB.Errorf("a transaction nested in this one is still open: %w", ErrSessionBusy)
	}
	return nil
}

// admitContext refuses a context that is not the innermost Atomic block's: its
// statement would be misplaced. The caller holds mu.
func (s *session) admitContext(ctx context.Context, top *block) error {
	if !s.place.hasBlocks() {
		return nil
	}
	for top != nil && !top.atomic {
		top = top.below
	}
	in := contextBlock(ctx)
	for in != nil && in.s.place != s.place {
		in = in.outer
	}
	switch {
	case in == top:
		return nil
	case in != nil && in.over:
		return in.doneError()
	case !s.place.Owns(ctx):
		return nil // a handle was given some other context
	}
	return s.DB.Errorf("an Atomic block is open: use the context that it passes to its function, "+
		"or wait until it is over: %w", ErrSessionBusy)
}

func (b *block) doneError() error {
	if b.why != nil {
		return b.s.DB.Errorf("the nested transaction was undone: %w", b.why)
	}
	return b.s.DB.Errorf("the nested transaction is over: %w", sql.ErrTxDone)
}

// expired returns the outermost block whose context has ended. The caller
// holds mu.
func (s *session) expired() *block {
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
func (s *session) undoExpired(ctx context.Context) {
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
	b.pop(false)
}

// takeAfterExpired admits a statement of a session that was taken once blocks that
// have expired are out of its way.
func (s *session) takeAfterExpired(ctx context.Context, b *block) error {
	s.undoExpired(ctx)
	err := s.brokenError()
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
func (s *session) push(ctx context.Context, b *block) error {
	if err := s.brokenError(); err != nil {
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
		err = s.Conn.Savepoint(ctx, b.mark)
	}
	if err == nil {
		s.mu.Lock()
		b.below = s.top()
		s.blocks = append(s.blocks, b)
		b.depth = len(s.blocks)
		if b.ctx != nil {
			s.timed++
		}
		s.mu.Unlock()
	}
	return s.Exit(ctx, err)
}

// pop takes the block, and what is left open in it, off the stack.
func (b *block) pop(kept bool) {
	s := b.s
	for !b.isOver() {
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
		s.place.blockEnded(top, kept)
	}
}

// popOwner takes the block whose end is the transaction's off the stack. Where a
// block inside it is open, that stays, and the commit is refused.
func (s *session) popOwner(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.top() == b {
		s.offStack(b)
		s.blocks = s.blocks[:0]
	}
}

// offStack notes that a block is off the stack. The caller holds mu.
func (s *session) offStack(b *block) {
	b.over = true
	if b.ctx != nil {
		s.timed--
	}
}

// gone reports whether the transaction no longer exists on the server.
func (s *session) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.condition.Gone()
}

func (s *session) state() state.Kind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.condition.Kind
}

func (s *session) innermost() *block {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.top()
}
