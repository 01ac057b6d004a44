package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
)

// session is one connection with one transaction, from the first statement to
// the end. After an early commit the slot gets a new one.
//
//	        Enter            Hold
//	idle ---------> running -------> reading
//	 ^               |   ^              |
//	 +---- Exit -----+   +--- Resume ---+
//
// seize takes an idle or reading session to running as well, so that whoever
// ends it is alone with the connection; then it is over. Several who want to
// end it wait for each other. When a scope ends while a statement is running,
// the session is abandoned: the statement's goroutine cleans up as it leaves.
type session struct {
	db   *database
	slot *slot // nil: no scope, each statement on a connection of its own
	opts scopeOptions

	engine  driver.Engine       // that conn is of
	host    *host               // whose engine it is, while the session is open
	wait    waiting             // of the first connection
	sandbox *Sandbox            // instead of a pool
	handle  atomic.Pointer[any] // the native handle, once asked for
	live    atomic.Bool         // a transaction is open, or was at the end, or a statement runs that may open one
	id      atomic.Uint64       // once asked for
	ending  sync.Mutex          // held by who has seized the session

	mu         sync.Mutex
	phase      phase
	seized     bool // running for who ends it
	abandoned  bool
	begun      bool
	conn       driver.Conn
	rows       driver.Rows // in reading
	broken     error       // why the transaction can only be undone
	doomed     *block      // the innermost one when that was decided here, nil where none was open
	fate       driver.Fate
	witness    []string       // of the transaction, once it is about to be committed
	outcome    driver.Outcome // once over
	lostCommit bool           // once over: the answer to COMMIT was lost, and it was not done
	wasOpen    bool           // once settled: there was a transaction
	result     driver.Outcome // once settled: of what was to be, see settle
	blocks     []*block       // open nested blocks, innermost last
	marks      int            // savepoints named so far
	handleOver func()         // tells the adapter
}

type phase uint8

const (
	idle phase = iota
	running
	reading
	over
)

// unscopedOptions are those of a statement without a scope.
var unscopedOptions = scopeOptions{endTimeout: defaultEndTimeout}

func newUnscoped(d *database) *session {
	return &session{db: d, fate: driver.Intact, opts: unscopedOptions}
}

// newHandle makes the session's native handle, once.
func newHandle[H any](adapter driver.Adapter[H], s *session) (H, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.handle.Load(); h != nil {
		return (*h).(H), nil
	}
	var none H
	if err := s.overError(); err != nil {
		return none, err
	}
	h, ended, err := adapter.Handle(s)
	if err != nil {
		return none, fmt.Errorf("dbscope: %s: making a handle: %w", s.db.name, err)
	}
	boxed := any(h)
	s.handle.Store(&boxed)
	s.handleOver = ended
	return h, nil
}

var lastID atomic.Uint64

// ID implements [driver.Session].
func (s *session) ID() uint64 {
	if s.id.Load() == 0 {
		s.id.CompareAndSwap(0, lastID.Add(1))
	}
	return s.id.Load()
}

// Enter implements [driver.Session].
func (s *session) Enter(ctx context.Context) (driver.Conn, error) { return s.enter(ctx, nil) }

func (s *session) enter(ctx context.Context, b *block) (driver.Conn, error) {
	if err := s.take(ctx, b); err != nil {
		return nil, err
	}
	switch f, sandboxed := s.conn.(*frame); {
	case !s.begun:
		return s.open(ctx)
	case sandboxed:
		if err := f.enter(ctx, false); err != nil {
			return nil, s.leave(err)
		}
	}
	return inner(s.conn), nil
}

// take admits a caller who then has the session to itself, not open perhaps,
// until it leaves.
func (s *session) take(ctx context.Context, b *block) error {
	s.mu.Lock()
	err := s.admit(ctx)
	expired := s.expired() != nil
	if err == nil && !expired {
		err = s.admitBlock(ctx, b)
	}
	if err == nil {
		s.phase = running
		if !s.begun {
			s.live.Store(true)
		}
		if s.slot != nil {
			s.slot.uses.Add(1)
		}
	}
	s.mu.Unlock()
	if err == nil && expired {
		err = s.takeAfterExpired(ctx, b)
	}
	return err
}

// admit says whether a statement may run now. The caller holds mu.
func (s *session) admit(ctx context.Context) error {
	if err := s.overError(); err != nil {
		return err
	}
	switch {
	case s.phase != idle:
		return fmt.Errorf("dbscope: %s: %w", s.db.name, ErrSessionBusy)
	case s.broken != nil && s.fate != driver.Aborted:
		return s.rolledBack()
	case ctx.Err() != nil:
		return fmt.Errorf("dbscope: %s: %w", s.db.name, interrupted(ctx))
	}
	return nil
}

// overError is the answer to any use after the end. The caller holds mu.
func (s *session) overError() error {
	switch {
	case s.slot != nil && s.slot.scope.ended.Load():
		return fmt.Errorf("dbscope: %s: %w", s.db.name, s.slot.scope.endedError())
	case s.abandoned:
		return s.abandonedError()
	case s.phase == over:
		return &overError{s.db.name, s.outcome}
	}
	return nil
}

// overError is the answer of a transaction that was ended before.
type overError struct {
	db string
	o  driver.Outcome
}

func (e *overError) Error() string {
	return fmt.Sprintf("dbscope: %s: this transaction is over (%s), ask the DB for its successor: %v", e.db, e.o, sql.ErrTxDone)
}

func (*overError) Unwrap() error { return sql.ErrTxDone }

func (s *session) abandonedError() error {
	if s.slot != nil && s.slot.scope.why.Load() != nil {
		return fmt.Errorf("dbscope: %s: %w", s.db.name, s.slot.scope.endedError())
	}
	return fmt.Errorf("dbscope: %s: %w since its scope was ended meanwhile: %w", s.db.name, ErrRolledBack, ErrSessionBusy)
}

// brokenError tells why the transaction can only be undone, nil where it goes
// on.
func (s *session) brokenError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		return nil
	}
	return s.rolledBack()
}

// rolledBack is the error of a broken session. The caller holds mu.
func (s *session) rolledBack() error {
	return fmt.Errorf("dbscope: %s: %w after: %w", s.db.name, ErrRolledBack, s.broken)
}

// check asks the connection what an error did to the transaction.
func (s *session) check(ctx context.Context, conn driver.Conn, err error) driver.Fate {
	if errors.Is(err, driver.ErrNotSent) {
		return driver.Intact
	}
	ending := endContext(ctx, s.opts.endTimeout)
	defer ending.cancel()
	return conn.Check(ending, err)
}

// Exit implements [driver.Session].
func (s *session) Exit(ctx context.Context, err error) error {
	if err == nil {
		return s.leave(nil)
	}
	s.noteError(err)
	before := s.brokenError()
	fate := s.check(ctx, s.conn, err)
	s.blame(ctx, fate, err)
	err = s.explain(err)
	// Added after all have judged the error: the cause may be one of a database
	// too, of another unit.
	if ctx.Err() != nil && (!errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx))) {
		err = fmt.Errorf("%w: %w", err, interrupted(ctx))
	}
	s.failed(fate, err)
	if before != nil {
		err = fmt.Errorf("%w; then: %w", before, err)
	}
	return s.leave(err)
}

// lift asks whether the transaction is aborted no more, after a statement that
// may have gone back to a savepoint. The caller has the session to itself.
func (s *session) lift(ctx context.Context) {
	if !s.isAborted() || s.check(ctx, s.conn, nil) != driver.Intact {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.fate = nil, driver.Intact
}

func (s *session) isAborted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fate == driver.Aborted
}

// failed notes what a statement's failure did.
func (s *session) failed(fate driver.Fate, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fate == driver.Intact {
		return
	}
	if s.broken == nil {
		s.broken = err
	}
	s.fate = min(s.fate, fate)
}

// doom lets nothing but a rollback through, though the server would: of all, or
// of a block that is open now.
func (s *session) doom(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil || s.fate == driver.Aborted {
		s.broken, s.doomed = joined(err, s.broken), s.top()
	}
	if s.fate == driver.Aborted {
		s.fate = driver.Intact // the rollback is ours to send, and nothing lifts it
	}
}

// leave makes a running session idle and passes err on. It is the last act of
// a statement, and so the place where an abandoned session is undone. A session
// that is over stays so: who waited to end a part of it finds it ended as a
// whole, and has nothing to give back.
func (s *session) leave(err error) error {
	s.mu.Lock()
	if s.phase == over {
		s.mu.Unlock()
		return err
	}
	if err == nil && s.fate == driver.Aborted {
		s.mu.Unlock()
		s.lift(context.Background())
		s.mu.Lock()
	}
	abandoned := s.abandoned
	if f, ok := s.conn.(*frame); ok {
		f.exit()
	}
	if !abandoned {
		s.phase, s.seized = idle, false
		if !s.begun {
			s.live.Store(false)
		}
	}
	s.mu.Unlock()
	if !abandoned && s.slot != nil {
		return err
	}
	if abandoned && err == nil {
		err = s.abandonedError()
	}
	return joined(err, s.end(context.Background(), err == nil && !abandoned).Err)
}

// Hold implements [driver.Session].
func (s *session) Hold(rows driver.Rows) {
	s.mu.Lock()
	abandoned := s.abandoned
	if !abandoned {
		s.rows, s.phase = rows, reading
	}
	s.mu.Unlock()
	if abandoned {
		// The scope is over: nobody is left to read, and what Close reports
		// is undone with the rest.
		s.closeHeld(context.Background(), rows)
		_ = s.leave(nil)
	}
}

// closeHeld closes rows that somebody has left open at the end of their
// transaction, however long they are: it takes no longer than an end may. The
// caller has the session to itself.
func (s *session) closeHeld(ctx context.Context, rows driver.Rows) {
	ending := endContext(ctx, s.closingTimeout())
	defer ending.cancel()
	if err := rows.Close(ending); err != nil {
		// Even where the server goes on: what the rows did is not certain.
		s.failed(s.check(ctx, s.conn, err), err)
		s.doom(fmt.Errorf("closing rows left open: %w", err))
	}
}

// Resume implements [driver.Session].
func (s *session) Resume(rows driver.Rows) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.overError(); err != nil {
		return err
	}
	switch {
	case s.phase == running:
		return fmt.Errorf("dbscope: %s: %w", s.db.name, ErrSessionBusy)
	case s.rows != rows: // there may be others by now
		return fmt.Errorf("dbscope: %s: these rows were left open, and closed when what they were read in ended: %w",
			s.db.name, sql.ErrTxDone)
	}
	s.phase, s.rows = running, nil
	return nil
}

func (s *session) isBegun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// busy reports whether a statement runs or its rows are open.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == running || s.phase == reading
}
