package dbscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
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
	sandbox *Sandbox            // instead of a pool
	handle  atomic.Pointer[any] // the native handle, once asked for
	ending  sync.Mutex          // held by who has seized the session

	mu         sync.Mutex
	phase      phase
	seized     bool // running for who ends it
	abandoned  bool
	begun      bool
	conn       driver.Conn
	rows       io.Closer // in reading
	broken     error     // why the transaction can only be undone
	fate       driver.Fate
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
		return fmt.Errorf("dbscope: %s: %w", s.db.name, ErrScopeEnded)
	case s.abandoned:
		return s.abandonedError()
	case s.phase == over:
		return fmt.Errorf("dbscope: %s: this transaction is over (%s), ask the DB for its successor: %w",
			s.db.name, s.outcome, sql.ErrTxDone)
	}
	return nil
}

func (s *session) abandonedError() error {
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
	if ctx.Err() != nil && (!errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx))) {
		err = fmt.Errorf("%w: %w", err, interrupted(ctx))
	}
	before := s.brokenError()
	s.failed(s.check(ctx, s.conn, err), err)
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

// doom lets nothing but a rollback through, though the server would.
func (s *session) doom(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil || s.fate == driver.Aborted {
		s.broken = joined(err, s.broken)
	}
	if s.fate == driver.Aborted {
		s.fate = driver.Intact // the rollback is ours to send, and nothing lifts it
	}
}

// leave makes a running session idle and passes err on. It is the last act of
// a statement, and so the place where an abandoned session is undone.
func (s *session) leave(err error) error {
	s.mu.Lock()
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
func (s *session) Hold(rows io.Closer) {
	s.mu.Lock()
	abandoned := s.abandoned
	if !abandoned {
		s.rows, s.phase = rows, reading
	}
	s.mu.Unlock()
	if abandoned {
		// The scope is over: nobody is left to read, and what Close reports
		// is undone with the rest.
		_ = joined(rows.Close(), s.leave(nil))
	}
}

// Resume implements [driver.Session].
func (s *session) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.overError(); err != nil {
		return err
	}
	if s.phase != reading {
		return fmt.Errorf("dbscope: %s: %w", s.db.name, ErrSessionBusy)
	}
	s.phase, s.rows = running, nil
	return nil
}

// busy reports whether a statement runs or its rows are open.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == running || s.phase == reading
}

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
		if err := rows.Close(); err != nil {
			// Even where the server goes on: what the rows did is not certain.
			s.failed(s.check(ctx, s.conn, err), err)
			s.doom(fmt.Errorf("closing rows left open: %w", err))
		}
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

// endEarly ends the transaction while the scope goes on. Where the call is
// refused, all stays as it was. own is the block whose transaction it is, or
// nil.
func (s *session) endEarly(ctx context.Context, commit bool, own *block) error {
	s.mu.Lock()
	err := s.overError()
	if err == nil && own == nil && len(s.blocks) > 0 && s.blocks[0] != s.expired() {
		err = fmt.Errorf("dbscope: %s: %w: end the nested transaction first", s.db.name, ErrOpenTransaction)
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
		prevented = s.slot.scope.before(ctx, s)
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
	return s.settle(ctx, commit, commit && s.obstacle() == nil), nil
}

// endedByAnother is the answer to who comes too late to commit: a hook of the
// commit, or another goroutine, has ended the transaction.
func (s *session) endedByAnother(committing bool) error {
	switch o := s.ended(); {
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
	var witness []string
	reuse := fate != driver.Lost
	if begun {
		ending := endContext(ctx, s.opts.endTimeout)
		defer ending.cancel()
		var prevented error
		if commit {
			witness, prevented = s.witness(ending, conn)
		}
		if prevented != nil {
			commit, fate = false, s.check(ctx, conn, prevented)
			reuse = fate != driver.Lost
		}
		o.DB = s.db.name
		if commit {
			o.State, o.Err = s.commitConn(ending, conn)
			reuse = o.State != driver.Unknown
		} else {
			err := s.rollbackConn(ending, conn, fate)
			reuse = reuse && err == nil
			o.State, o.Err = driver.RolledBack, joined(prevented, err)
		}
	}
	s.mu.Lock()
	for _, b := range s.blocks {
		b.over = true
	}
	s.phase, s.outcome, s.conn, s.rows, s.blocks = over, o.State, nil, nil, nil
	handleOver := s.handleOver
	s.mu.Unlock()
	if conn != nil && (!reuse || s.slot == nil || !s.slot.keep(s, conn)) {
		s.release(conn, reuse)
	}
	if witness != nil && o.State == driver.Unknown {
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

func (s *session) commitConn(ctx context.Context, conn driver.Conn) (driver.Outcome, error) {
	state, err := conn.Commit(ctx)
	switch state {
	case driver.Committed:
		return state, nil
	case driver.RolledBack:
		return state, fmt.Errorf("dbscope: %s: %w: %w", s.db.name, ErrRolledBack, err)
	default:
		return state, fmt.Errorf("dbscope: %s: %w: %w", s.db.name, ErrCommitUnknown, err)
	}
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
