package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
)

// block is a transaction nested in a session's. Blocks end in reverse order of
// their beginning.
//
// A block whose context has ended will be undone: database/sql does that from
// a goroutine of its own, at some later time. So that nothing slips into the
// block meanwhile, the session undoes it before it does anything else.
type block struct {
	*session
	kind   blockKind
	mark   string          // the savepoint's name
	ctx    context.Context // whose end undoes the block, or nil
	atomic bool            // begun by Atomic: its statements come with its context
	below  *block          // the one around it in this session
	outer  *block          // the one around its context, perhaps in another session
	alone  bool            // the transaction is nobody else's, and no hook from before waits for it
	over   bool
	why    error // it is over, where its context has ended
}

type blockKind uint8

const (
	savepoint blockKind = iota
	joining             // a part of what is around it, and undone only with that
	fromStart           // begun when nothing was done in the transaction: it is undone whole
	owner               // its end is the transaction's
)

type blockKey struct{}

// contextBlock returns the innermost Atomic block of the context.
func contextBlock(ctx context.Context) *block {
	b, _ := ctx.Value(blockKey{}).(*block)
	return b
}

// openBlock returns the block, or the nearest around its context that is open.
func openBlock(b *block) *block {
	for b != nil && b.isOver() {
		b = b.outer
	}
	return b
}

func (b *block) isOver() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
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
		return fmt.Errorf("dbscope: %s: a transaction nested in this one is still open: %w", s.db.name, ErrSessionBusy)
	}
	return nil
}

// admitContext refuses a context that is not the innermost Atomic block's: its
// statement would be misplaced.
func (s *session) admitContext(ctx context.Context, top *block) error {
	if s.slot == nil || !s.slot.atomic.Load() {
		return nil
	}
	for top != nil && !top.atomic {
		top = top.below
	}
	in := contextBlock(ctx)
	for in != nil && in.slot != s.slot {
		in = in.outer
	}
	switch {
	case in == top:
		return nil
	case in != nil && in.over:
		return in.doneError()
	case scopeOf(ctx) != s.slot.scope:
		return nil // a handle was given some other context
	}
	return fmt.Errorf("dbscope: %s: an Atomic block is open: use the context that it passes to its function, "+
		"or wait until it is over: %w", s.db.name, ErrSessionBusy)
}

func (b *block) doneError() error {
	if b.why != nil {
		return fmt.Errorf("dbscope: %s: the nested transaction was undone: %w", b.db.name, b.why)
	}
	return fmt.Errorf("dbscope: %s: the nested transaction is over: %w", b.db.name, sql.ErrTxDone)
}

// expired returns the outermost block whose context has ended. The caller
// holds mu.
func (s *session) expired() *block {
	for _, b := range s.blocks {
		if b.ctx != nil && b.ctx.Err() != nil {
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
	if b != nil {
		for _, inside := range s.blocks[slices.Index(s.blocks, b):] {
			inside.why = errs.Interrupted(b.ctx)
		}
	}
	s.mu.Unlock()
	if b == nil {
		return
	}
	bounded := ending.New(ctx, s.opts.endTimeout)
	defer bounded.Cancel()
	_ = b.undo(bounded) // a failure breaks the session, and so is told
	b.pop(false)
}

// takeAfterExpired admits a statement of a running session once blocks that
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

// Begin implements [driver.Session].
func (s *session) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, savepoint)
}

// Join implements [driver.Session].
func (s *session) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, joining)
}

// Begin implements [driver.Session].
func (b *block) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.nest(ctx, b, opts, savepoint)
}

// Join implements [driver.Session].
func (b *block) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.nest(ctx, b, opts, joining)
}

// Enter implements [driver.Session].
func (b *block) Enter(ctx context.Context) (driver.Conn, error) { return b.enter(ctx, b) }

func (s *session) nest(ctx context.Context, in *block, opts sql.TxOptions, kind blockKind) (driver.Session, error) {
	if s.slot == nil {
		return s.unscopedTx(ctx, opts)
	}
	if err := s.cannotHave(driver.TxOptions{TxOptions: opts}); err != nil {
		return nil, err
	}
	if err := s.take(ctx, in); err != nil {
		return nil, err
	}
	b := &block{session: s, kind: kind, ctx: ctx}
	if err := s.push(ctx, b); err != nil {
		return nil, err
	}
	return b, nil
}

// cannotHave refuses options that the open transaction does not have.
func (s *session) cannotHave(opts driver.TxOptions) error {
	has := s.opts.tx
	if (opts.Isolation == sql.LevelDefault || opts.Isolation == has.Isolation) &&
		(has.ReadOnly || !opts.ReadOnly) && (has.Deferrable || !opts.Deferrable) {
		return nil
	}
	return fmt.Errorf("dbscope: %s: a nested transaction has the options of the one around it and cannot be %s: "+
		"pass them to the scope: %w", s.db.name, describe(opts), ErrOpenTransaction)
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
		err = s.conn.Savepoint(ctx, b.mark)
	}
	if err == nil {
		s.mu.Lock()
		b.below = s.top()
		s.blocks = append(s.blocks, b)
		s.mu.Unlock()
	}
	return s.Exit(ctx, err)
}

func describe(opts driver.TxOptions) string {
	switch {
	case opts.ReadOnly:
		return "read-only"
	case opts.Deferrable:
		return "deferrable"
	}
	return opts.Isolation.String()
}

// unscopedTx begins a transaction where there is no scope to nest it in: in a
// scope of its own that ends with it.
func (s *session) unscopedTx(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	ctx, scope := Begin(ctx, UnitOption(func(o *unitOptions) { o.tx.TxOptions = opts }))
	ss, err := scope.session(s.db)
	if err == nil {
		_, err = ss.Enter(ctx)
	}
	if err != nil {
		return nil, errs.Joined(err, scope.Release(ctx))
	}
	return &unscopedTx{ss}, ss.Exit(ctx, nil)
}

type unscopedTx struct{ *session }

// Commit implements [driver.Session].
func (t *unscopedTx) Commit(ctx context.Context) error { return finish(ctx, true, true, t.slot.scope) }

// Rollback implements [driver.Session].
func (t *unscopedTx) Rollback(ctx context.Context) error {
	return finish(ctx, false, true, t.slot.scope)
}

// Commit implements [driver.Session].
func (s *session) Commit(ctx context.Context) error {
	s.dropHandle()
	return s.endEarly(ctx, true, nil)
}

// Rollback implements [driver.Session].
func (s *session) Rollback(ctx context.Context) error {
	s.dropHandle()
	return s.endEarly(ctx, false, nil)
}

// dropHandle forgets the handle that ends the transaction, which may take no
// statement any more: of a hook, or after the end was refused.
func (s *session) dropHandle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle.Store(nil)
	s.handleOver = nil
}

// Commit implements [driver.Session]: the block's work now belongs to the
// transaction around it.
func (b *block) Commit(ctx context.Context) error { return b.endBlock(ctx, true, b.keep) }

// Rollback implements [driver.Session]: the block's work is undone, that of
// blocks left open in it too.
func (b *block) Rollback(ctx context.Context) error { return b.endBlock(ctx, false, b.undo) }

func (b *block) keep(ctx context.Context) error {
	if b.innermost() != b {
		// Kept or undone, a part of somebody's work would be misplaced.
		b.doom(fmt.Errorf("a transaction nested in the one committed is still open: %w", ErrSessionBusy))
	}
	switch err := b.brokenError(); {
	case err != nil && b.atomic:
		return errs.Joined(err, b.undo(ctx)) // alone, since Atomic tells
	case err != nil || b.kind != savepoint:
		return err
	}
	if err := b.conn.ReleaseSavepoint(ctx, b.mark); err != nil {
		b.failed(b.check(ctx, b.conn, err), err)
		b.doom(err)
		return b.brokenError()
	}
	return nil
}

// undo undoes the block's work, by itself where that can be.
func (b *block) undo(ctx context.Context) error {
	switch {
	case b.kind == fromStart:
		return b.restart(ctx)
	case b.kind != savepoint:
		b.doom(errors.New("a transaction that joined it was rolled back"))
		return nil
	case b.gone():
		return nil // the server has undone more than that
	}
	if err := b.conn.RollbackTo(ctx, b.mark); err != nil {
		b.failed(driver.Lost, err)
		return b.brokenError()
	}
	b.lift(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	for in := b.doomed; in != nil; in = in.below {
		if in == b { // what it was doomed for is undone
			b.broken, b.doomed = nil, nil
			break
		}
	}
	return nil
}

// restart undoes a transaction in which nothing was done but what is undone
// now: the next statement begins anew, whatever became of the connection. The
// caller has the session to itself.
func (s *session) restart(ctx context.Context) error {
	s.mu.Lock()
	conn, begun, fate := s.conn, s.begun, s.fate
	s.mu.Unlock()
	var err error
	if begun {
		err = s.rollbackConn(ctx, conn, fate)
	}
	lost := begun && (err != nil || fate == driver.Lost)
	s.leaveHost()
	s.mu.Lock()
	s.begun, s.broken, s.doomed, s.fate = false, nil, nil, driver.Intact
	if lost {
		s.conn = nil
	}
	s.mu.Unlock()
	if lost {
		s.release(conn, false)
	}
	return err
}

// endBlock runs end alone with the session, and takes the block off the stack.
func (b *block) endBlock(ctx context.Context, commit bool, end func(context.Context) error) error {
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
		if b.ctx == nil || b.ctx.Err() == nil {
			b.doom(err) // its work is neither wanted nor undone
		}
		if b.atomic { // Atomic does not come again
			b.pop(false)
		}
		return err
	}
	if b.over { // seize found it expired
		return b.leave(b.doneError())
	}
	bounded := ending.New(ctx, b.opts.endTimeout)
	defer bounded.Cancel()
	err = end(bounded)
	b.pop(commit && err == nil)
	return b.leave(err)
}

// pop takes the block, and what is left open in it, off the stack.
func (b *block) pop(committed bool) {
	for !b.isOver() {
		b.mu.Lock()
		top := b.top()
		if top == nil {
			b.mu.Unlock()
			return
		}
		top.over = true
		b.blocks = b.blocks[:len(b.blocks)-1]
		b.mu.Unlock()
		b.slot.scope.blockEnded(top, committed)
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
	return s.top()
}
