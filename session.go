package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/state"
)

// place is where a session stands: in the slot of its DB in a unit, or outside of
// units. Where a method does not say otherwise, the session's holder calls it.
type place interface {
	link.Source
	// unitEnded returns what any use of the unit answers once it is over, else nil. It
	// is called under the session's mu.
	unitEnded() error
	// admitted counts a statement. It is called under the session's mu.
	admitted()
	// hasBlocks reports whether an Atomic block was begun here, and owns whether a
	// context is one of the unit's. They are called under the session's mu.
	hasBlocks() bool
	owns(ctx context.Context) bool
	// failed is called with an error that may be a reason to run the unit again.
	failed(err error)
	// blockEnded is called for each block, kept or undone, once it is off the stack.
	blockEnded(b *block, kept bool)
	// ended is called once the session has its result. For a session that is abandoned
	// that is before its transaction is undone.
	ended(s *session)
	// closing shortens the time in which rows left open must be closed.
	closing(time.Duration) time.Duration
	// keep takes the connection for the next session, or reports false.
	keep(s *session) bool
	// endEarly ends the session's transaction while the unit goes on, and with it
	// the block whose transaction it is, unless that is nil. Anybody may call it.
	endEarly(ctx context.Context, s *session, w wish, own *block) error
}

// session is one connection with one transaction, from the first statement to
// the end. After an early end its place gets a new one.
//
// mu guards who holds the session. The holder alone touches the rest, and
// publishes under mu what others look at: the fields below mu. Who ends the
// session, or a block of it, holds ending first; locks are taken in the order
// ending, mu, the unit's.
type session struct {
	link.Link
	place      place
	handle     atomic.Pointer[any] // the native handle, made when it is first asked for
	live       atomic.Bool         // a transaction is open or being opened; after the end: there was one
	id         atomic.Uint64       // made when it is first asked for
	ending     sync.Mutex          // lets one at a time end the session or a block of it
	marks      int                 // how many savepoints were named
	rows       driver.Rows         // what the last statement has left open
	hooked     bool                // the DB's own BeforeCommit hook has been called; guarded by the unit's mu
	kept       bool                // outside units: the connection stays when a statement is done
	handleOver func()              // tells the adapter that the handle is over; guarded by mu

	mu        sync.Mutex
	holder    state.Holder
	begun     bool // there is a transaction, or outside units a connection
	condition state.Condition
	blocks    []*block // the open nested blocks, the innermost last
	timed     int      // how many of them end with their contexts
	owner     ownerEnd // of a transaction that is other code's: how that has ended it
	result    link.Result
}

func newSession(db *link.Database, at place, tx driver.TxOptions, timeout time.Duration) *session {
	s := &session{place: at, holder: state.Nobody}
	s.Link = link.Link{DB: db, Source: at, Owner: s, TX: tx, Timeout: timeout}
	return s
}

// Enter implements [driver.Session].
func (s *session) Enter(ctx context.Context) (driver.Conn, error) { return s.enter(ctx, nil) }

func (s *session) enter(ctx context.Context, b *block) (driver.Conn, error) {
	if err := s.take(ctx, b); err != nil {
		return nil, err
	}
	if !s.begun {
		if err := s.open(ctx); err != nil {
			return nil, err
		}
	}
	if s.Shared == nil {
		return s.Conn, nil
	}
	conn, err := s.Shared.Enter(ctx)
	if err != nil {
		return nil, s.leave(err)
	}
	return conn, nil
}

// take admits a caller who then holds the session, not open perhaps, until it
// leaves.
func (s *session) take(ctx context.Context, b *block) error {
	s.mu.Lock()
	err := s.admit(ctx)
	expired := s.expired() != nil
	if err == nil && !expired {
		err = s.admitBlock(ctx, b)
	}
	if err == nil {
		s.holder.Move(state.Take)
		if !s.begun {
			s.live.Store(true)
		}
		s.place.admitted()
	}
	s.mu.Unlock()
	if err == nil && expired {
		err = s.takeAfterExpired(ctx, b)
	}
	return err
}

// open connects and begins. The session is left after an error.
func (s *session) open(ctx context.Context) (err error) {
	err = errors.New("opening the session panicked")
	defer func() {
		if err != nil { // also where a function of the user's panics
			err = s.leave(err)
		}
	}()
	err = s.Connect(ctx)
	s.mu.Lock()
	s.begun = err == nil
	abandoned := s.holder == state.Deserter
	s.mu.Unlock()
	switch {
	case err != nil:
		s.place.failed(err)
		s.doomHere(err) // what the statement was to do is missing
		err = s.DB.Errorf("%w", err)
	case abandoned:
		err = s.abandonedError()
	}
	return err
}

// admit says whether a statement may run now. The caller holds mu.
func (s *session) admit(ctx context.Context) error {
	if err := s.overError(); err != nil {
		return err
	}
	switch {
	case s.holder != state.Nobody:
		return s.DB.Errorf("%w", ErrSessionBusy)
	case !s.condition.Runs():
		return s.rolledBack()
	case ctx.Err() != nil:
		return s.DB.Errorf("%w", errs.Interrupted(ctx))
	}
	return nil
}

// overError is the answer to any use after the end. The caller holds mu.
func (s *session) overError() error {
	ended := s.place.unitEnded()
	switch {
	case ended != nil:
		return s.DB.Errorf("%w", ended)
	case s.holder == state.Deserter:
		return s.abandonedError()
	case s.holder == state.Over:
		return &overError{s.DB.Name, s.result.Outcome}
	}
	return nil
}

func (s *session) abandonedError() error {
	if ended := s.place.unitEnded(); errors.Is(ended, ErrRolledBack) {
		return s.DB.Errorf("%w", ended) // it says why
	}
	return s.DB.Errorf("%w since its scope was ended meanwhile: %w", ErrRolledBack, ErrSessionBusy)
}

// brokenError tells why the transaction can only be undone, nil where it goes
// on.
func (s *session) brokenError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.condition.Why == nil {
		return nil
	}
	return s.rolledBack()
}

// rolledBack is the error of a transaction that is not sound. The caller holds mu.
func (s *session) rolledBack() error {
	if s.place.Context() == nil {
		return s.DB.Errorf("this connection was lost, with its settings and locks, take a new one: %w", s.condition.Why)
	}
	return s.DB.Errorf("%w after: %w", ErrRolledBack, s.condition.Why)
}

// Exit implements [driver.Session].
func (s *session) Exit(ctx context.Context, err error) error {
	if err == nil {
		return s.leave(nil)
	}
	s.place.failed(err)
	before := s.brokenError()
	fate := s.Check(ctx, err)
	s.Blame(ctx, fate, err)
	err = s.Explain(err)
	// Added after all have judged the error: the cause may be one of a database
	// too, of another unit.
	if ctx.Err() != nil && (!errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx))) {
		err = fmt.Errorf("%w: %w", err, errs.Interrupted(ctx))
	}
	s.fail(fate, err)
	if before != nil {
		err = fmt.Errorf("%w; then: %w", before, err)
	}
	return s.leave(err)
}

// fail notes what a statement's failure did.
func (s *session) fail(fate driver.Fate, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.Fail(fate, err)
}

// doomHere lets nothing but a rollback through, though the server would: of all, or
// of a block that is open now. Whoever finds out calls it.
func (s *session) doomHere(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.Doom(err, len(s.blocks))
}

// doom is doomHere where blocks of that number have to be undone.
func (s *session) doom(err error, depth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.Doom(err, depth)
}

// lift asks whether an aborted transaction is so no more, after a statement that
// may have gone back to a savepoint.
func (s *session) lift(ctx context.Context) {
	if s.Check(ctx, nil) != driver.Intact {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.Lift()
}

// leave lets others have the session and passes err on. It is the last act of a
// statement, and so the place where an abandoned session is undone, and one
// outside units given back. A session that is over stays so: who waited to end a
// part of it finds it ended as a whole, and has nothing to give back.
func (s *session) leave(err error) error {
	s.mu.Lock()
	if s.holder == state.Over {
		s.mu.Unlock()
		return err
	}
	if err == nil && s.condition.Kind == state.Aborted {
		s.mu.Unlock()
		s.lift(context.Background())
		s.mu.Lock()
	}
	if s.Adopted != nil && s.condition.Final() {
		s.mu.Unlock()
		err = errs.Joined(err, s.preventCommit(context.Background()))
		s.mu.Lock()
	}
	if s.Shared != nil {
		s.Shared.Exit()
	}
	abandoned := s.holder == state.Deserter
	ends := abandoned || s.place.Context() == nil && (!s.kept || !s.begun)
	if !ends {
		s.holder.Move(state.Leave)
		if !s.begun {
			s.live.Store(false)
		}
	}
	s.mu.Unlock()
	if !ends {
		return err
	}
	if abandoned && err == nil {
		err = s.abandonedError()
	}
	return errs.Joined(err, s.end(context.Background(), err == nil && !abandoned).Err)
}

// Hold implements [driver.Session].
func (s *session) Hold(rows driver.Rows) {
	s.rows = rows
	s.mu.Lock()
	abandoned := s.holder == state.Deserter
	if !abandoned {
		s.holder.Move(state.Hold)
	}
	s.mu.Unlock()
	if abandoned {
		// The scope is over: nobody is left to read, and what Close reports
		// is undone with the rest.
		s.closeHeld(context.Background())
		_ = s.leave(nil)
	}
}

// Resume implements [driver.Session].
func (s *session) Resume(rows driver.Rows) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.overError(); err != nil {
		return err
	}
	switch s.holder {
	case state.Reader:
		if s.rows == rows { // there may be others by now
			s.holder.Move(state.Resume)
			s.rows = nil
			return nil
		}
	case state.Statement, state.Ender:
		return s.DB.Errorf("%w", ErrSessionBusy)
	}
	return s.DB.Errorf("these rows were left open, and closed when what they were read in ended: %w", sql.ErrTxDone)
}

func (s *session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder == state.Over
}
