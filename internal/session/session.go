// Package session has a session, which is one connection with one transaction, and the
// blocks nested in it. It knows no unit: what it has to know of that it asks its Place.
package session

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

// Place is where a session stands: in the slot of its DB in a unit, or outside of
// units. Where a method does not say otherwise, the session's holder calls it.
type Place interface {
	link.Source
	// UnitEnded returns what any use of the unit answers once it is over, else nil. It
	// is called under the session's mu.
	UnitEnded() error
	// Admitted counts a statement. It is called under the session's mu.
	Admitted()
	// HasBlocks reports whether an Atomic block was begun here. It is called under the
	// session's mu.
	HasBlocks() bool
	// Failed is called with an error that may be a reason to run the unit again.
	Failed(err error)
	// BlockEnded is called for each block, kept or undone, once it is off the stack.
	BlockEnded(b *Block, kept bool)
	// Ended is called once the session has its result. For a session that is abandoned
	// that is before its transaction is undone.
	Ended(s *Session)
	// Closing shortens the time in which rows left open must be closed.
	Closing(time.Duration) time.Duration
	// AwaitsEnd reports whether something in the unit depends on the answer to COMMIT of
	// a transaction that could not write, or to ROLLBACK. Anybody may call it.
	AwaitsEnd(commits bool) bool
	// Keep takes the connection for the next session, or reports false.
	Keep(s *Session) bool
	// EndEarly ends the session's transaction while the unit goes on, and with it
	// the block whose transaction it is, unless that is nil. A commit runs the last
	// statement before, unless that is nil. Anybody may call it.
	EndEarly(ctx context.Context, s *Session, w Wish, own *Block, last Last) error
}

// Session is one connection with one transaction, from the first statement to
// the end. After an early end its place gets a new one.
//
// mu guards who holds the session. The holder alone touches the rest, and
// publishes under mu what others look at: the fields below mu. Who ends the
// session, or a block of it, holds ending first; locks are taken in the order
// ending, mu, the unit's.
type Session struct {
	link.Link
	Place      Place
	handle     atomic.Pointer[any] // the native handle, made when it is first asked for
	Live       atomic.Bool         // a transaction is open or being opened; after the end: there was one
	id         atomic.Uint64       // made when it is first asked for
	Ending     sync.Mutex          // lets one at a time end the session or a block of it
	marks      int                 // how many savepoints were named
	rows       driver.Rows         // what the last statement has left open
	hooked     bool                // the DB's own BeforeCommit hook has been called; guarded by the unit's mu
	Kept       bool                // outside units: the connection stays when a statement is done
	last       Last                // the statement that it ends with, or nil
	cancelled  bool                // a statement's context ended while it ran: its cancellation may be on its way
	handleOver func()              // tells the adapter that the handle is over; guarded by mu

	mu        sync.Mutex
	holder    state.Holder
	abandoned bool // it was ended while a statement ran, which may have returned since
	begun     bool // there is a transaction, or outside units a connection
	condition state.Condition
	blocks    []*Block // the open nested blocks, the innermost last
	behind    []Last   // are run before COMMIT
	timed     int      // how many of them end with their contexts
	owner     ownerEnd // of a transaction that is other code's: how that has ended it
	free      error    // of such a one: why it could not be kept from being committed
	result    link.Result
}

// New returns a session that is not open yet.
func New(db *link.Database, at Place, tx driver.TxOptions, timeout time.Duration) *Session {
	s := &Session{Place: at, holder: state.Nobody}
	s.Link = link.Link{DB: db, Source: at, Owner: s, TX: tx, Timeout: timeout, Watch: at.Watch().Session()}
	return s
}

// Enter implements [driver.Session].
func (s *Session) Enter(ctx context.Context) (driver.Conn, error) { return s.enter(ctx, nil) }

func (s *Session) enter(ctx context.Context, b *Block) (driver.Conn, error) {
	if err := s.Take(ctx, b); err != nil {
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

// Take admits a caller who then holds the session, not open perhaps, until it
// leaves.
func (s *Session) Take(ctx context.Context, b *Block) error {
	s.mu.Lock()
	err := s.admit(ctx)
	expired := s.expired() != nil
	if err == nil && !expired {
		err = s.admitBlock(ctx, b)
	}
	if err == nil {
		s.holder.Move(state.Take)
		if !s.begun {
			s.Live.Store(true)
		}
		s.Place.Admitted()
	}
	s.mu.Unlock()
	if err == nil && expired {
		err = s.takeAfterExpired(ctx, b)
	}
	s.Watch.Refused(ctx, err)
	return err
}

// open connects and begins. The session is left after an error.
func (s *Session) open(ctx context.Context) (err error) {
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
		s.Place.Failed(err)
		s.DoomHere(err) // what the statement was to do is missing
		err = s.DB.Errorf("%w", err)
	case abandoned:
		err = s.abandonedError()
	}
	return err
}

// admit says whether a statement may run now. The caller holds mu.
func (s *Session) admit(ctx context.Context) error {
	if err := s.OverError(); err != nil {
		return err
	}
	switch {
	case s.holder != state.Nobody:
		return s.DB.Errorf("%w", errs.ErrSessionBusy)
	case !s.condition.Runs():
		return s.rolledBack()
	case ctx.Err() != nil:
		return s.DB.Errorf("%w", errs.Interrupted(ctx))
	}
	return nil
}

// OverError is the answer to any use after the end. The caller holds mu.
func (s *Session) OverError() error {
	ended := s.Place.UnitEnded()
	switch {
	case ended != nil:
		return s.DB.Errorf("%w", ended)
	case s.holder == state.Deserter:
		return s.abandonedError()
	case s.holder == state.Over:
		return &OverError{s.DB.Name, s.result.Outcome}
	}
	return nil
}

func (s *Session) abandonedError() error {
	if ended := s.Place.UnitEnded(); errors.Is(ended, errs.ErrRolledBack) {
		return s.DB.Errorf("%w", ended) // it says why
	}
	return s.DB.Errorf("%w since its scope was ended meanwhile: %w", errs.ErrRolledBack, errs.ErrSessionBusy)
}

// Broken tells why the transaction can only be undone, nil where it goes
// on.
func (s *Session) Broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.condition.Why == nil {
		return nil
	}
	return s.rolledBack()
}

// rolledBack is the error of a transaction that is not sound. The caller holds mu.
func (s *Session) rolledBack() error {
	if s.Place.Context() == nil {
		return s.DB.Errorf("this connection was lost, with its settings and locks, take a new one: %w", s.condition.Why)
	}
	return s.DB.Errorf("%w after: %w", errs.ErrRolledBack, s.condition.Why)
}

// Exit implements [driver.Session].
func (s *Session) Exit(ctx context.Context, err error) error {
	s.cancelled = s.cancelled || ctx.Err() != nil
	if err == nil {
		s.Watch.End(nil)
		return s.leave(nil)
	}
	s.Place.Failed(err)
	before := s.Broken()
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
	s.Watch.End(err)
	return s.leave(err)
}

// fail notes what a statement's failure did.
func (s *Session) fail(fate driver.Fate, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.Fail(fate, err)
}

// DoomHere lets nothing but a rollback through, though the server would: of all, or
// of a block that is open now. Whoever finds out calls it.
func (s *Session) DoomHere(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.Doom(err, len(s.blocks))
}

// Doom is DoomHere where blocks of that number have to be undone.
func (s *Session) Doom(err error, depth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition.Doom(err, depth)
}

// lift asks whether an aborted transaction is so no more, after a statement that
// may have gone back to a savepoint.
func (s *Session) lift(ctx context.Context) {
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
func (s *Session) leave(err error) error {
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
	if s.Adopted != nil {
		s.mu.Unlock()
		err = errs.Joined(err, s.leaveToOwner())
		s.mu.Lock()
	}
	if s.Shared != nil {
		s.Shared.Exit()
	}
	abandoned := s.holder == state.Deserter
	ends := abandoned || s.Place.Context() == nil && (!s.Kept || !s.begun)
	if !ends {
		s.holder.Move(state.Leave)
		if !s.begun {
			s.Live.Store(false)
		}
	}
	s.mu.Unlock()
	if !ends {
		return err
	}
	if abandoned && err == nil {
		err = s.abandonedError()
	}
	r := s.end(context.Background(), err == nil && !abandoned)
	s.Watch.Over(r.Outcome, r.Err)
	return errs.Joined(err, r.Err)
}

// Hold implements [driver.Session].
func (s *Session) Hold(rows driver.Rows) {
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
func (s *Session) Resume(rows driver.Rows) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.OverError(); err != nil {
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
		return s.DB.Errorf("%w", errs.ErrSessionBusy)
	}
	return s.DB.Errorf("these rows were left open, and closed when what they were read in ended: %w", sql.ErrTxDone)
}

// IsOver reports whether nobody can have the session any more.
func (s *Session) IsOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder == state.Over
}
