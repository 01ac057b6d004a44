package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/driver"
)

// block is a transaction nested in a session's: a savepoint, or, where it has
// no mark, a part of the transaction that contains it. Blocks end in reverse
// order of their beginning.
//
// A block whose context has ended will be undone: database/sql does that from
// a goroutine of its own, at some later time. So that nothing slips into the
// block meanwhile, the session undoes it before it does anything else.
type block struct {
	*session
	ctx  context.Context
	mark string // the savepoint's name
	over bool
}

// admitBlock says whether a statement of b may run now; nil is the whole
// session, whose statements are part of the innermost block. The caller holds
// mu.
func (s *session) admitBlock(b *block) error {
	switch {
	case b == nil:
		return nil
	case b.over:
		return b.doneError()
	case b != s.blocks[len(s.blocks)-1]:
		return fmt.Errorf("dbscope: %s: a transaction nested in this one is still open: %w", s.db.name, ErrSessionBusy)
	}
	return nil
}

func (b *block) doneError() error {
	return fmt.Errorf("dbscope: %s: the nested transaction is over: %w", b.db.name, sql.ErrTxDone)
}

// expired returns the outermost block whose context has ended. The caller
// holds mu.
func (s *session) expired() *block {
	for _, b := range s.blocks {
		if b.ctx.Err() != nil {
			return b
		}
	}
	return nil
}

// undoExpired undoes the blocks whose contexts have ended. The caller has the
// session to itself.
func (s *session) undoExpired(ctx context.Context) {
	s.mu.Lock()
	b := s.expired()
	s.mu.Unlock()
	if b == nil {
		return
	}
	ending := endContext(ctx, s.opts.endTimeout)
	defer ending.cancel()
	_ = b.undo(ending) // a failure breaks the session, and so is told
	b.pop()
}

// enterAfterExpired admits a statement of a running session once blocks that
// have expired are out of its way.
func (s *session) enterAfterExpired(ctx context.Context, b *block) error {
	s.undoExpired(ctx)
	err := s.brokenError()
	if err == nil {
		s.mu.Lock()
		err = s.admitBlock(b)
		s.mu.Unlock()
	}
	if err != nil {
		return s.leave(err)
	}
	return nil
}

// Begin implements [driver.Session].
func (s *session) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, true)
}

// Join implements [driver.Session].
func (s *session) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, false)
}

// Begin implements [driver.Session].
func (b *block) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.nest(ctx, b, opts, true)
}

// Join implements [driver.Session].
func (b *block) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.nest(ctx, b, opts, false)
}

// Enter implements [driver.Session].
func (b *block) Enter(ctx context.Context) (driver.Conn, error) { return b.enter(ctx, b) }

func (s *session) nest(ctx context.Context, in *block, opts sql.TxOptions, savepoint bool) (driver.Session, error) {
	if s.slot == nil {
		return s.unscopedTx(ctx, opts)
	}
	if (opts.Isolation != sql.LevelDefault && opts.Isolation != s.opts.tx.Isolation) || opts.ReadOnly && !s.opts.tx.ReadOnly {
		return nil, fmt.Errorf("dbscope: %s: a nested transaction has the options of its scope and cannot be %s: "+
			"pass dbscope.Isolation or dbscope.ReadOnly to the scope: %w", s.db.name, describe(opts), ErrOpenTransaction)
	}
	conn, err := s.enter(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := s.brokenError(); err != nil {
		return nil, s.leave(err)
	}
	b := &block{session: s, ctx: ctx}
	if savepoint {
		s.marks++ // running: nobody else is here
		b.mark = fmt.Sprintf("dbscope_%d", s.marks)
		err = conn.Savepoint(ctx, b.mark)
	}
	if err == nil {
		s.mu.Lock()
		s.blocks = append(s.blocks, b)
		s.mu.Unlock()
	}
	if err := s.Exit(ctx, err); err != nil {
		return nil, err
	}
	return b, nil
}

func describe(opts sql.TxOptions) string {
	if opts.ReadOnly {
		return "read-only"
	}
	return opts.Isolation.String()
}

// unscopedTx begins a transaction where there is no scope to nest it in: in a
// scope of its own that ends with it.
func (s *session) unscopedTx(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	ctx, scope := Begin(ctx, func(o *scopeOptions) { o.tx.TxOptions = opts })
	ss, err := scope.session(s.db)
	if err == nil {
		_, err = ss.Enter(ctx)
	}
	if err != nil {
		return nil, joined(err, scope.Release(ctx))
	}
	return &unscopedTx{ss}, ss.Exit(ctx, nil)
}

type unscopedTx struct{ *session }

// Commit implements [driver.Session].
func (t *unscopedTx) Commit(ctx context.Context) error { return t.slot.scope.finish(ctx, true, true) }

// Rollback implements [driver.Session].
func (t *unscopedTx) Rollback(ctx context.Context) error {
	return t.slot.scope.finish(ctx, false, true)
}

// Commit implements [driver.Session].
func (s *session) Commit(ctx context.Context) error { return s.endEarly(ctx, true) }

// Rollback implements [driver.Session].
func (s *session) Rollback(ctx context.Context) error { return s.endEarly(ctx, false) }

// Commit implements [driver.Session]: the block's work now belongs to the
// transaction around it.
func (b *block) Commit(ctx context.Context) error {
	return b.endBlock(ctx, func(ctx context.Context) error {
		if b.innermost() != b {
			// Kept or undone, a part of somebody's work would be misplaced.
			b.doom(fmt.Errorf("a transaction nested in the one committed is still open: %w", ErrSessionBusy))
		}
		if err := b.brokenError(); err != nil || b.mark == "" {
			return err
		}
		if err := b.conn.ReleaseSavepoint(ctx, b.mark); err != nil {
			b.failed(b.check(ctx, b.conn, err), err)
			b.doom(err)
			return b.brokenError()
		}
		return nil
	})
}

// Rollback implements [driver.Session]: the block's work is undone, that of
// blocks left open in it too.
func (b *block) Rollback(ctx context.Context) error { return b.endBlock(ctx, b.undo) }

// undo undoes the block's work, by itself where it is a savepoint.
func (b *block) undo(ctx context.Context) error {
	if b.mark == "" {
		b.doom(errors.New("a transaction that joined it was rolled back"))
		return nil
	}
	if b.gone() {
		return nil // the server has undone more than that
	}
	if err := b.conn.RollbackTo(ctx, b.mark); err != nil {
		b.failed(driver.Lost, err)
		return b.brokenError()
	}
	b.lift(ctx)
	return nil
}

// endBlock runs end alone with the session, and takes the block off the stack.
func (b *block) endBlock(ctx context.Context, end func(context.Context) error) error {
	b.mu.Lock()
	err := b.overError()
	if err == nil && b.over {
		err = b.doneError()
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	defer b.ending.Unlock()
	if !b.seize(ctx, false) {
		err := fmt.Errorf("dbscope: %s: ending a nested transaction: %w", b.db.name, ErrSessionBusy)
		if b.ctx.Err() == nil {
			b.doom(err) // its work is neither wanted nor undone
		}
		return err
	}
	if b.over { // seize found it expired
		return b.leave(fmt.Errorf("dbscope: %s: the nested transaction was undone: %w", b.db.name, interrupted(b.ctx)))
	}
	ending := endContext(ctx, b.opts.endTimeout)
	defer ending.cancel()
	err = end(ending)
	b.pop()
	return b.leave(err)
}

// pop takes the block, and what is left open in it, off the stack.
func (b *block) pop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.over && len(b.blocks) > 0 {
		last := len(b.blocks) - 1
		b.blocks[last].over = true
		b.blocks = b.blocks[:last]
	}
}

// gone reports whether the transaction no longer exists on the server.
func (s *session) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fate <= driver.Undone
}

func (s *session) innermost() *block {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocks[len(s.blocks)-1]
}
