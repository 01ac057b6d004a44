package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dbscope/dbscope/driver"
)

// seize takes the session away from its users, closing rows left open. It
// reports false where a statement is running; with abandon that statement is
// told to undo the session when it returns. Either way the caller holds
// s.ending afterwards. seize waits for others that end the session or a block
// of it, for which they have a limited time.
func (s *session) seize(ctx context.Context, abandon bool) bool {
	s.ending.Lock()
	s.mu.Lock()
	rows, busy := s.rows, s.phase == running
	switch s.phase {
	case running:
		s.abandoned = s.abandoned || abandon
	case idle, reading:
		s.phase, s.rows, s.seized = running, nil, true
	}
	s.mu.Unlock()
	if busy {
		return false
	}
	if rows != nil {
		s.closeHeld(ctx, rows)
	}
	s.undoExpired(ctx)
	return true
}

// obstacle tells why a seized session must not be committed.
func (s *session) obstacle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.abandoned:
		return s.abandonedError()
	case s.broken != nil:
		return s.rolledBack()
	case len(s.blocks) > 0:
		return fmt.Errorf("dbscope: %s: %w: a nested transaction was neither committed nor rolled back: %w",
			s.db.name, ErrRolledBack, ErrOpenTransaction)
	}
	return nil
}

// cleared reports whether nothing stands in the way of a seized session's commit,
// for which it calls the witness and looks at the connection.
func (s *session) cleared(ctx context.Context) bool {
	if s.obstacle() == nil {
		s.callWitness(ctx)
	}
	if s.obstacle() == nil {
		s.look(ctx)
	}
	return s.obstacle() == nil
}

// look breaks the session where the server has ended it already: COMMIT is then
// sent to no database of the scope. What a statement has committed before is not
// undone by that: there the connection's Commit tells.
func (s *session) look(ctx context.Context) {
	l, can := s.conn.(driver.Looker)
	if !can || !s.begun || committedByStatement(s.conn) != nil {
		return
	}
	if err := l.Look(); err != nil {
		err = fmt.Errorf("the session was ended before COMMIT was sent: %w", err)
		s.blame(context.WithoutCancel(ctx), driver.Lost, err)
		s.failed(driver.Lost, err)
	}
}

// endEarly ends the transaction while the scope goes on. Where the call is
// refused, all stays as it was. own is the block whose transaction it is, or
// nil.
func (s *session) endEarly(ctx context.Context, commit bool, own *block) error {
	s.mu.Lock()
	err := s.overError()
	if err == nil && own == nil && len(s.blocks) > 0 && s.blocks[0] != s.expired() {
		err = fmt.Errorf("dbscope: %s: %w: end the nested transaction first", s.db.name, ErrOpenTransaction)
	}
	if err == nil && commit && s.slot != nil {
		err = s.slot.scope.mayCommit()
	}
	if err == nil && own == nil && s.phase == running && !s.seized { // asked again below, but hooks come first
		err = fmt.Errorf("dbscope: %s: %w", s.db.name, ErrSessionBusy)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	var prevented error
	if commit && s.slot != nil {
		prevented = s.slot.scope.before(ctx, s, false)
	}
	marked := commit && s.slot != nil && s.slot.scope.rollbackOnly.Load()
	o, err := s.endSeized(ctx, commit, commit && !marked && prevented == nil, own)
	if err != nil {
		return err
	}
	s.afterEarly(ctx, own)
	switch {
	case prevented != nil:
		return joined(prevented, o.Err)
	case marked:
		return joined(fmt.Errorf("dbscope: %s: %w", s.db.name, ErrRollbackOnly), o.Err)
	case commit && o.failed():
		return &CommitError{Outcomes: []Outcome{o}}
	}
	return o.Err
}

// endSeized ends the transaction alone with the session.
func (s *session) endSeized(ctx context.Context, wanted, commit bool, own *block) (o Outcome, err error) {
	defer s.ending.Unlock()
	if !s.seize(ctx, false) {
		if own != nil { // its work is neither wanted nor undone
			s.doom(fmt.Errorf("dbscope: %s: ending an Atomic block: %w", s.db.name, ErrSessionBusy))
			own.pop(false)
		}
		return o, fmt.Errorf("dbscope: %s: %w", s.db.name, ErrSessionBusy)
	}
	if s.isOver() {
		return o, s.endedByAnother(wanted)
	}
	s.mu.Lock()
	if own != nil && s.top() == own { // else a block inside is open
		own.over = true
		s.blocks = s.blocks[:0]
	}
	s.mu.Unlock()
	return s.settle(ctx, commit, commit && s.cleared(ctx)), nil
}

// endedByAnother is the answer to who comes too late to commit: a hook of the
// commit, or another goroutine, has ended the transaction.
func (s *session) endedByAnother(committing bool) error {
	switch o := s.ended(); {
	case committing && s.slot != nil && s.slot.scope.why.Load() != nil && o == driver.RolledBack:
		return fmt.Errorf("dbscope: %s: %w", s.db.name, s.slot.scope.endedError())
	case !committing || o == driver.Committed:
		return nil
	case o == driver.Unknown:
		return fmt.Errorf("dbscope: %s: %w", s.db.name, ErrCommitUnknown)
	}
	return fmt.Errorf("dbscope: %s: %w meanwhile: %w", s.db.name, ErrRolledBack, sql.ErrTxDone)
}

// afterEarly runs the hooks of the session, which is over.
func (s *session) afterEarly(ctx context.Context, own *block) {
	if s.slot == nil || !s.slot.scope.hooked.Load() {
		return
	}
	scope := s.slot.scope
	due := scope.takeAfter(func(h *hook) (driver.Outcome, bool) { return s.ended(), h.session == s })
	if own != nil {
		scope.blockEnded(own, s.ended() == driver.Committed)
	}
	if len(due) > 0 {
		s.slot.dropSpare() // a hook may need it
	}
	scope.runAfter(scope.inside(ctx), due)
}

// settle ends a session that is seized, or abandoned, and where a commit was
// wanted says why it was not to be. An outcome without a DB name means that
// there was nothing to commit.
func (s *session) settle(ctx context.Context, wanted, commit bool) Outcome {
	if s.isOver() {
		return Outcome{} // by another one
	}
	why := s.obstacle()
	var o Outcome
	if !s.isAbandoned() {
		o = s.end(ctx, commit)
	}
	if wanted && why != nil {
		o = Outcome{DB: s.db.name, State: driver.RolledBack, Err: joined(why, o.Err)}
	}
	s.mu.Lock()
	s.result, s.wasOpen = o.State, o.DB != ""
	if !s.wasOpen {
		s.result = driver.RolledBack
		if commit {
			s.result = driver.Committed
		}
	}
	s.mu.Unlock()
	if s.slot != nil {
		if s.wasOpen && o.State != driver.RolledBack {
			s.slot.scope.committed.Store(true) // or perhaps
		}
		s.slot.current.CompareAndSwap(s, nil)
		s.slot.scope.passOn(s)
	}
	return o
}

// end commits or undoes the transaction of a session that the caller has to
// itself, and gives the connection on.
func (s *session) end(ctx context.Context, commit bool) Outcome {
	s.mu.Lock()
	conn, begun, fate := s.conn, s.begun && (s.slot != nil || s.sandbox != nil), s.fate
	if s.phase == over {
		s.mu.Unlock()
		return Outcome{}
	}
	s.mu.Unlock()
	var o Outcome
	var before []string
	witness := s.witness
	reuse := fate != driver.Lost
	if begun {
		ending := endContext(ctx, s.opts.endTimeout)
		defer ending.cancel()
		var prevented error
		if commit {
			before, prevented = s.askBefore(ending, conn)
		}
		if prevented != nil {
			commit, fate = false, s.check(ctx, conn, prevented)
			s.blame(context.WithoutCancel(ctx), fate, prevented)
			reuse = fate != driver.Lost
		}
		o.DB = s.db.name
		if commit {
			o.State, reuse, o.Err = s.commitConn(ending, conn, before)
		} else {
			err := s.rollbackConn(ending, conn, fate)
			reuse = reuse && err == nil
			o.State, o.Err = driver.RolledBack, joined(prevented, err)
		}
	}
	s.mu.Lock()
	left := s.blocks // open, which the commit was refused for
	for _, b := range left {
		b.over = true
	}
	s.phase, s.outcome, s.conn, s.rows, s.blocks = over, o.State, nil, nil, nil
	handleOver := s.handleOver
	s.mu.Unlock()
	for _, b := range slices.Backward(left) {
		s.slot.scope.blockEnded(b, false)
	}
	if conn != nil && (!reuse || s.slot == nil || !s.slot.keep(s, conn)) {
		s.release(conn, reuse)
	}
	if witness != nil && o.State == driver.Unknown && !errors.Is(o.Err, driver.ErrUnconfirmed) {
		o = s.settleUnknown(ctx, o, witness)
		s.mu.Lock()
		s.outcome = o.State
		s.mu.Unlock()
	}
	s.leaveHost()
	if handleOver != nil {
		handleOver()
	}
	return o
}

func (s *session) isAbandoned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.abandoned
}

// commitConn commits, and says whether the connection can be used again. A
// read-only transaction whose COMMIT was not answered has stored nothing. It counts
// as rolled back and not as committed: on some isolation levels only the answer
// tells that what was read can be believed.
func (s *session) commitConn(ctx context.Context, conn driver.Conn, before []string) (state driver.Outcome, reuse bool, err error) {
	if w := s.writes(); w != nil {
		state, err = w.commit(ctx, conn, s.db.hosts.router, before)
	} else {
		state, err = conn.Commit(ctx)
	}
	switch state {
	case driver.Committed:
		return state, true, nil
	case driver.RolledBack:
		return state, true, fmt.Errorf("dbscope: %s: %w: %w", s.db.name, ErrRolledBack, err)
	}
	s.blame(context.Background(), driver.Lost, err)
	if s.opts.tx.ReadOnly && !errors.Is(err, driver.ErrEnded) {
		s.lostCommit = true
		return driver.RolledBack, false, fmt.Errorf("dbscope: %s: %w: the answer to COMMIT was lost, but the transaction was read-only: %w",
			s.db.name, ErrRolledBack, err)
	}
	return state, false, fmt.Errorf("dbscope: %s: %w: %w", s.db.name, ErrCommitUnknown, err)
}

func (s *session) rollbackConn(ctx context.Context, conn driver.Conn, fate driver.Fate) error {
	if f, sandboxed := conn.(*frame); fate <= driver.Undone {
		if sandboxed { // its transaction may be there still
			_ = f.Rollback(ctx)
		}
		return nil // there is nothing left to undo
	}
	if err := conn.Rollback(ctx); err != nil {
		return fmt.Errorf("dbscope: %s: ROLLBACK failed, the connection was closed instead: %w", s.db.name, err)
	}
	return nil
}

func (s *session) release(conn driver.Conn, reuse bool) {
	if s.slot != nil {
		s.slot.release(conn, reuse)
		return
	}
	conn.Release(reuse)
}

// giveBack releases the connection of a session that has not begun, which is
// that of the slot's previous transaction.
func (s *session) giveBack() {
	s.mu.Lock()
	var conn driver.Conn
	if s.phase == idle && !s.begun {
		conn, s.conn = s.conn, nil
	}
	s.mu.Unlock()
	if conn != nil {
		s.release(conn, true)
	}
}

// closeRows closes rows left open, so that statements can run.
func (s *session) closeRows(ctx context.Context) {
	defer s.ending.Unlock()
	if s.seize(ctx, false) && !s.isOver() {
		_ = s.leave(nil)
	}
}

func (s *session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == over
}

// ended returns what became of a session that is over, for its hooks.
func (s *session) ended() driver.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

// endingContext is what commits and rollbacks run under: alive whatever became
// of the caller's context, and bounded. Unlike one of the context package it
// costs a timer only where somebody waits for it.
type endingContext struct {
	context.Context // for the values of the caller's
	deadline        time.Time

	mu    sync.Mutex
	done  chan struct{} // once asked for
	timer *time.Timer   // closes done
	err   error         // once done is closed, or the end is over
	after []*func()     // to call then
}

func endContext(ctx context.Context, d time.Duration) *endingContext {
	return &endingContext{Context: context.WithoutCancel(ctx), deadline: time.Now().Add(d)}
}

// Deadline implements [context.Context].
func (c *endingContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements [context.Context].
func (c *endingContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		} else {
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.finish(context.DeadlineExceeded) })
		}
	}
	return c.done
}

// Err implements [context.Context].
func (c *endingContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.done == nil && !time.Now().Before(c.deadline) {
		c.err = context.DeadlineExceeded
	}
	return c.err
}

// AfterFunc is what [context.AfterFunc] and the contexts made from this one look
// for: without it each would wait in a goroutine.
func (c *endingContext) AfterFunc(f func()) (stop func() bool) {
	_ = c.Done() // so that the time runs
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.after = append(c.after, &f)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.after, &f)
		if i >= 0 {
			c.after = slices.Delete(c.after, i, i+1)
		}
		return i >= 0
	}
}

// cancel lets go of what waits for the context.
func (c *endingContext) cancel() { c.finish(context.Canceled) }

func (c *endingContext) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		if c.done != nil {
			c.timer.Stop()
			close(c.done)
		}
		for _, f := range c.after {
			go (*f)()
		}
		c.after = nil
	}
}
