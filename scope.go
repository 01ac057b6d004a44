package dbscope

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
)

// Scope is one unit of work. It travels in a context and holds at most one
// session for each DB. It is safe for concurrent use; it must end with
// Release, which [Run] and the middlewares do.
type Scope struct {
	ctx          context.Context // that carries it
	parent       *Scope          // the caller's scope, which may hold connections meanwhile
	sandbox      *Sandbox        // that keeps its transactions, in a test
	run          bool            // begun by Run, which has it on its stack
	outside      bool            // only carries the sandbox: it is no scope
	group        *Group          // with CommitTogether, whose others may hold connections until it ends
	held         atomic.Bool     // only waits to be committed with them
	opts         scopeOptions
	rollbackOnly atomic.Bool
	first        atomic.Pointer[slot]  // in order of first use; appended under mu
	ended        atomic.Bool           // set under mu
	mu           sync.Mutex            // guards the list, each slot's spare, and hooks
	hooks        []hook                // in order of registration
	hooked       atomic.Bool           // there has been one; set under mu
	sealed       bool                  // none of BeforeCommit may come any more; under mu
	outcome      driver.Outcome        // of its last end; under mu
	committed    atomic.Bool           // something of it is
	transient    atomic.Bool           // what undid it may not happen again
	met          atomic.Bool           // a statement failed so that it may succeed another time
	streams      atomic.Bool           // its answer has begun to leave: it keeps no connection without a transaction
	nested       []*Scope              // begun inside it, and not over; under mu
	connections  atomic.Int32          // taken by it, and by those inside it
	watcher      Watcher               // of that, or nil
	why          atomic.Pointer[error] // it was ended by Abort; set under mu
}

// slot is the place of one DB in one scope.
type slot struct {
	db      *database
	scope   *Scope
	current atomic.Pointer[session] // nil between transactions
	next    atomic.Pointer[slot]
	spare   driver.Conn          // the connection between two transactions
	engine  driver.Engine        // that the spare is of
	holding atomic.Int32         // connections taken, spare or in use
	pool    atomic.Pointer[host] // that the last one was taken from
	atomic  atomic.Bool          // there has been an Atomic block
	uses    atomic.Int64         // statements admitted so far
}

// scopeContext is the context and its scope in one allocation.
type scopeContext struct {
	context.Context
	scope Scope
}

type scopeKey struct{}

// Value answers for the scope and leaves the rest to the parent context.
func (c *scopeContext) Value(key any) any {
	if key == (scopeKey{}) {
		return &c.scope
	}
	return c.Context.Value(key)
}

// Begin puts a new scope into the context, also when there is one already. It
// does no I/O. It is for writers of middlewares; others call [Run]:
//
//	ctx, scope := dbscope.Begin(ctx)
//	defer scope.Release(ctx) // undoes what Commit has not committed
//	...
//	err := scope.Commit(ctx)
func Begin(ctx context.Context, opts ...Option) (context.Context, *Scope) {
	c := &scopeContext{Context: ctx}
	s := &c.scope
	s.ctx, s.opts.endTimeout = c, defaultEndTimeout
	for _, o := range opts {
		o.applyToScope(&s.opts)
	}
	s.joinParent(scopeOf(ctx))
	s.sandbox = sandboxOf(ctx)
	return c, s
}

// FromContext returns the context's scope, unless there is none or it has
// ended.
func FromContext(ctx context.Context) (*Scope, bool) {
	s := scopeOf(ctx)
	if s == nil || s.ended.Load() {
		return nil, false
	}
	return s, true
}

// scopeOf returns the context's scope, also when it has ended.
func scopeOf(ctx context.Context) *Scope {
	s, _ := ctx.Value(scopeKey{}).(*Scope)
	if s != nil && s.outside {
		return nil
	}
	return s
}

// sandboxOf returns what keeps the transactions of the context's scopes, or nil.
func sandboxOf(ctx context.Context) *Sandbox {
	if s, _ := ctx.Value(scopeKey{}).(*Scope); s != nil {
		return s.sandbox
	}
	return nil
}

// Detach returns a context with the same values, deadline and cancellation but
// without a scope, for work that must not join the caller's.
func Detach(ctx context.Context) context.Context {
	var none *Scope
	if b := sandboxOf(ctx); b != nil {
		none = &Scope{sandbox: b, outside: true}
	}
	return context.WithValue(ctx, scopeKey{}, none)
}

// MarkRollback decides that the context's scope will roll back: commits of it
// answer [ErrRollbackOnly], statements keep working. It does not block.
func MarkRollback(ctx context.Context) error {
	s := scopeOf(ctx)
	if s == nil {
		return fmt.Errorf("dbscope: %w", ErrNoScope)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return fmt.Errorf("dbscope: %w", s.endedError())
	}
	s.rollbackOnly.Store(true)
	return nil
}

// Commit commits what is open, database by database in the order of first
// use, and gives the connections back. The scope goes on: the next statement
// takes a connection and begins a new transaction. When anything stands in the
// way of one database, none is committed; when a COMMIT fails, those after it
// roll back; either way the error is a [*CommitError].
//
// It blocks, at most [CommitTimeout] for each database; the cancellation of
// ctx does not stop it. Rows left open are closed first. A statement that
// another goroutine still runs makes the commit fail with [ErrSessionBusy].
func (s *Scope) Commit(ctx context.Context) error {
	if err := s.mayCommit(); err != nil {
		return err
	}
	return finish(ctx, true, false, s)
}

// mayCommit refuses an early commit of what is committed together with others.
func (s *Scope) mayCommit() error {
	if s.group == nil {
		return nil
	}
	return fmt.Errorf("dbscope: %w: the functions of a Group that commits together cannot commit by themselves", ErrOpenTransaction)
}

// Rollback undoes what is open in all databases, and gives the connections
// back. The scope goes on. It blocks as [Scope.Commit] does.
func (s *Scope) Rollback(ctx context.Context) error { return finish(ctx, false, false, s) }

// Release ends the scope, undoing what is open, and gives all connections
// back. After the first call it does nothing. It blocks as [Scope.Commit]
// does, except for a statement that another goroutine still runs: its session
// is undone when that statement returns.
func (s *Scope) Release(ctx context.Context) error { return finish(ctx, false, true, s) }

// ReadOnly reports whether the scope was begun with the option of that name.
func (s *Scope) ReadOnly() bool { return s.opts.tx.ReadOnly }

// Busy reports whether a statement runs in the scope, or its rows are open:
// then a commit now would take them away from their reader.
func (s *Scope) Busy() bool {
	for ss := range s.sessions() {
		if ss.busy() {
			return true
		}
	}
	return false
}

// finish is the one way the transactions of scopes end together. Where last is
// set the scopes are over before anything is sent, so that nothing can begin
// behind the commit.
func finish(ctx context.Context, commit, last bool, scopes ...*Scope) error {
	var prevented error
	for _, s := range scopes {
		if commit && prevented == nil {
			prevented = s.before(ctx, nil, last)
		}
	}
	marked := false
	var aborted error
	live := scopes[:0]
	for _, s := range scopes {
		if over := s.close(last); !over {
			live = append(live, s)
		}
		marked = marked || commit && s.rollbackOnly.Load() // where last is set, by nobody from now on
		aborted = cmp.Or(aborted, s.aborted())
	}
	if len(live) == 0 && !last && aborted == nil {
		return fmt.Errorf("dbscope: %w", ErrScopeEnded)
	}
	wanted := commit
	commit = commit && !marked && prevented == nil && aborted == nil
	errs := settleAll(ctx, live, commit)
	giveUp(ctx, live)
	switch {
	case wanted && aborted != nil:
		return joined(aborted, errs)
	case prevented != nil:
		return joined(prevented, errs)
	case marked:
		return joined(fmt.Errorf("dbscope: %w", ErrRollbackOnly), errs)
	}
	return errs
}

// giveUp is for scopes whose sessions were settled.
func giveUp(ctx context.Context, scopes []*Scope) {
	for _, s := range scopes {
		s.dropSpares()
	}
	runAllAfter(ctx, scopes)
}

// settleAll commits the scopes' sessions, or undoes them, one after the other.
func settleAll(ctx context.Context, scopes []*Scope, commit bool) error {
	ok := commit
	var few [4]*session // so that the usual scope allocates nothing
	taken := few[:0]
	for _, s := range scopes {
		for ss := range s.sessions() {
			ss.seize(ctx, true)
			if ss.isOver() { // somebody else was first, and has told what became of it
				ss.ending.Unlock()
				continue
			}
			taken = append(taken, ss)
			ok = ok && ss.obstacle() == nil
		}
	}
	// Abort marks a scope before it takes its sessions, so that none is missing
	// here where it has not.
	var aborted error
	for _, s := range scopes {
		aborted = cmp.Or(aborted, s.aborted())
	}
	ok = ok && aborted == nil
	for _, ss := range taken { // before the first COMMIT is sent
		ok = ok && ss.cleared(ctx)
	}
	all := ok
	var outcomes []Outcome
	var errs error
	for i, ss := range taken {
		o := ss.settle(ctx, commit, all)
		ss.slot.scope.note(ss, o)
		ss.ending.Unlock()
		switch {
		case !commit:
			errs = joined(errs, o.Err)
		case o.failed():
			if outcomes == nil {
				outcomes = committed(taken[:i])
			}
			outcomes, all = append(outcomes, o), false
		}
	}
	for _, s := range scopes {
		outcome := overall(s, taken, all)
		s.mu.Lock()
		s.outcome = outcome
		s.mu.Unlock()
	}
	switch {
	case commit && aborted != nil:
		return joined(aborted, errs)
	case commit && !all:
		return &CommitError{Outcomes: outcomes}
	}
	return errs
}

// overall tells whether all of a scope was committed, or nothing of it, or
// neither, which is unknown. Where nothing was open, it is what was to be.
func overall(s *Scope, ended []*session, committed bool) driver.Outcome {
	outcome := driver.RolledBack
	if committed {
		outcome = driver.Committed
	}
	first := true
	for _, ss := range ended {
		switch {
		case ss.slot.scope != s || !ss.wasOpen:
		case first:
			outcome, first = ss.ended(), false
		case ss.ended() != outcome:
			return driver.Unknown
		}
	}
	return outcome
}

// sessions yields the current session of each DB, in the order of first use.
func (s *Scope) sessions() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for sl := s.first.Load(); sl != nil; sl = sl.next.Load() {
			if ss := sl.current.Load(); ss != nil && !yield(ss) {
				return
			}
		}
	}
}

// committed lists the outcomes of those that are.
func committed(sessions []*session) []Outcome {
	var all []Outcome
	for _, ss := range sessions {
		if ss.outcome == driver.Committed {
			all = append(all, Outcome{DB: ss.db.name, State: driver.Committed})
		}
	}
	return all
}

// close reports whether the scope was over, and ends it where last is set.
func (s *Scope) close(last bool) bool {
	s.mu.Lock()
	was := s.ended.Load()
	s.ended.Store(was || last)
	s.mu.Unlock()
	if last && !was {
		s.leaveParent()
	}
	return was
}

// session returns the DB's open session, or a new one that is not open yet.
func (s *Scope) session(db *database) (*session, error) {
	last := &s.first
	for sl := last.Load(); sl != nil; sl = last.Load() {
		if sl.db == db {
			if ss := sl.current.Load(); ss != nil {
				return ss, nil
			}
			break
		}
		last = &sl.next
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return nil, fmt.Errorf("dbscope: %s: %w", db.name, s.endedError())
	}
	last = &s.first
	for sl := last.Load(); ; sl = last.Load() {
		if sl == nil {
			sl = &slot{db: db, scope: s}
			last.Store(sl)
		}
		if sl.db == db {
			ss := sl.current.Load()
			if ss == nil {
				ss = &session{
					db: db, slot: sl, opts: s.opts, sandbox: s.sandbox,
					fate: driver.Intact, conn: sl.spare, engine: sl.engine,
				}
				sl.spare = nil
				sl.current.Store(ss)
			}
			return ss, nil
		}
		last = &sl.next
	}
}

func (s *Scope) dropSpares() {
	for sl := s.first.Load(); sl != nil; sl = sl.next.Load() {
		sl.dropSpare()
	}
}

// holds reports whether the scope or one that waits for it keeps a connection
// of such a pool taken, other than the slot that asks.
func (s *Scope) holds(except *slot, such func(*hosts) bool) bool {
	for ; s != nil; s = s.parent {
		for sl := s.first.Load(); sl != nil; sl = sl.next.Load() {
			if sl != except && sl.holding.Load() > 0 && such(sl.db.hosts) {
				return true
			}
		}
	}
	return false
}

// together reports whether the scope, or one that waits for it, is one of a
// Group whose others may keep connections taken until it ends.
func (s *Scope) together() bool {
	for s != nil && s.group == nil {
		s = s.parent
	}
	return s != nil
}

// keep stores the connection of a session that is over for the slot's next
// transaction. It reports false where there will be none.
func (sl *slot) keep(ss *session, conn driver.Conn) bool {
	sl.scope.mu.Lock()
	defer sl.scope.mu.Unlock()
	if sl.scope.ended.Load() || sl.scope.streams.Load() || sl.spare != nil || sl.current.Load() != ss {
		return false
	}
	sl.spare, sl.engine = conn, ss.engine
	return true
}

// dropSpare releases the connection that is kept for the next transaction, also
// where that has its session already.
func (sl *slot) dropSpare() {
	sl.scope.mu.Lock()
	conn := sl.spare
	sl.spare = nil
	sl.scope.mu.Unlock()
	if conn != nil {
		sl.release(conn, true)
	}
	if next := sl.current.Load(); next != nil {
		next.giveBack()
	}
}

// release counts first: who gets the connection next holds it then.
func (sl *slot) release(conn driver.Conn, reuse bool) {
	if sl.scope.sandbox == nil {
		sl.holding.Add(-1)
		sl.scope.took(-1)
	}
	conn.Release(reuse)
}
