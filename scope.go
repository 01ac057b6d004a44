package dbscope

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/hooks"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/internal/watch"
	"github.com/dbscope/dbscope/observe"
)

// Scope is one unit of work. It travels in a context and holds at most one
// session for each DB. It is safe for concurrent use; it must end with
// End, which [Run] and the middlewares do.
type Scope struct {
	ctx  context.Context // the context that carries the scope
	at   time.Time       // when it began, where a DB's observer may come to ask; else zero
	unit unit.Unit       // its place among the units around and inside it
	box  unit.Sandbox    // gives out the connections in a test of package scopetest, else nil
	opts scopeOptions
	// The database whose transaction is other code's, see DB.Adopt; else nil.
	adopted *link.Database

	// Others look at these without a lock.
	watch        atomic.Pointer[watch.Unit] // what observers know of it, nil where none does
	first        atomic.Pointer[slot]       // the list of slots, in the order of first use; appended to under mu
	ended        atomic.Bool                // nothing can be done in it any more; set under mu
	abortedBy    atomic.Pointer[error]      // why Abort has ended it, nil where it has not; set under mu
	doomedBy     atomic.Pointer[error]      // the error of a Join, after which only a rollback is possible; set under mu
	blocks       atomic.Bool                // an Atomic block was begun in it
	joins        atomic.Int32               // how many functions of Join run in it
	attempt      atomic.Int32               // which of the unit it is, where somebody counts
	rollbackOnly atomic.Bool                // MarkRollback was called
	streams      atomic.Bool                // its answer has begun to leave, so that it keeps no connection without a transaction
	hooked       atomic.Bool                // a hook has been registered; set under mu
	committed    atomic.Bool                // a transaction of it was committed, or may have been
	transient    atomic.Bool                // a session of it was undone by an error that Retry acts on
	sawTransient atomic.Bool                // a statement of it failed with such an error, whatever became of the session

	ending sync.Mutex // lets one at a time end the scope, or all that is open in it; locked before any session's
	mu     sync.Mutex // guards the list of slots, each slot's spare and hooks, and the rest
	hooks  hooks.OfScope[*session.Block]
	sealed bool       // no further BeforeCommit hook is taken, since the last of them has run
	due    hooks.List // hooks of the scope itself, once its end has decided that they run
}

// control is a scope in the hands of its middleware. It implements Control of
// package middleware, which says what its methods do.
type control Scope

// slot is the place of one DB in one scope. Its methods are in slot.go.
type slot struct {
	db      *link.Database
	scope   *Scope
	current atomic.Pointer[session.Session] // nil between two transactions
	next    atomic.Pointer[slot]
	holding atomic.Int32               // how many connections it has, in use or spare
	pool    atomic.Pointer[pools.Host] // where the last of them was taken from
	blocks  atomic.Bool                // an Atomic block was begun here
	uses    atomic.Int64               // how many statements were admitted
	watch   *watch.DB                  // tells observers, nil where there are none

	// The scope's mu guards the rest.
	spare  driver.Conn   // the connection that is kept between two transactions
	engine driver.Engine // the pool of the spare
	hooks  hooks.Waiting // wait for the end of the session, or of the next one
	due    hooks.List    // of sessions that have ended; they run when the connection is back
}

// scopeContext is the context and its scope in one allocation.
type scopeContext struct {
	context.Context
	scope Scope
}

type scopeKey struct{}

// Value answers for the scope and leaves the rest to the parent context.
func (c *scopeContext) Value(key any) any {
	switch key {
	case scopeKey{}:
		return &c.scope
	case unit.ControlKey{}:
		return (*control)(&c.scope)
	case watch.NamerKey{}:
		if c.scope.opts.name != "" {
			return watch.Name(c.scope.opts.name)
		}
	}
	return c.Context.Value(key)
}

// Begin puts a new scope into the context, also when there is one already. It
// does no I/O. It is for writers of middlewares; others call [Run]:
//
//	ctx, scope := dbscope.Begin(ctx)
//	defer scope.End(ctx) // undoes what Commit has not committed
//	...
//	err := scope.Commit(ctx)
func Begin(ctx context.Context, opts ...Option) (context.Context, *Scope) {
	c := &scopeContext{Context: ctx}
	s := &c.scope
	s.ctx, s.opts.endTimeout, s.opts.onHookError = c, defaultEndTimeout, logHookError
	for _, o := range opts {
		o.applyToScope(&s.opts)
	}
	s.unit.Scope = s
	if around := scopeOf(ctx); around != nil {
		s.unit.Join(&around.unit)
	}
	s.unit.Most = int32(s.opts.maxConns)
	var tests []observe.Observer
	if s.box, tests = unit.Around(ctx); tests != nil {
		s.opts.observers = append(s.opts.observers, tests...)
	}
	if s.at = watch.Now(); len(s.opts.observers) > 0 {
		c.Context = s.watched().Begin(ctx, s.opts.observers)
	}
	return c, s
}

// watched is what observers know of the unit.
func (s *Scope) watched() *watch.Unit {
	if known := s.watch.Load(); known != nil {
		return known
	}
	at := s.at
	if at.IsZero() {
		at = time.Now()
	}
	e := observe.Event{Time: at, Unit: s.unit.ID(), ReadOnly: s.opts.tx.ReadOnly}
	around := s.ctx.(*scopeContext).Context
	if p := scopeOf(around); p != nil { // which may be over, as that of a hook is
		e.Parent = p.unit.ID()
	}
	s.watch.CompareAndSwap(nil, watch.New(around, s.ctx, e))
	return s.watch.Load()
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
	s, _ := unit.Value(ctx, scopeKey{}).(*Scope)
	return s
}

// noScope is the error of a context without a scope, which may be one that must not
// be used for a request's.
func noScope(ctx context.Context) error {
	if refused := unit.Refused(ctx); refused != nil {
		return fmt.Errorf("%w: %w", refused, ErrNoScope)
	}
	return ErrNoScope
}

// WithoutScope returns a context with the same values, deadline and cancellation but
// without a scope, for work that must not join the caller's.
func WithoutScope(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, (*Scope)(nil))
}

// MarkRollback decides that the context's scope will roll back: its
// commits return [ErrRollbackOnly], and statements keep working. It does not block.
func MarkRollback(ctx context.Context) error {
	s := scopeOf(ctx)
	if s == nil {
		return fmt.Errorf("dbscope: %w", noScope(ctx))
	}
	if s.adopted != nil {
		s.doom(ErrRollbackOnly) // its owner has to be kept from committing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return fmt.Errorf("dbscope: %w", s.endedError())
	}
	s.rollbackOnly.Store(true)
	return nil
}

func (c *control) ReadOnly() bool { return c.opts.tx.ReadOnly }

func (c *control) Busy() bool {
	for ss := range (*Scope)(c).sessions() {
		if ss.Busy() {
			return true
		}
	}
	return false
}

// parent returns the scope around it that was not over when it began, or nil.
func (s *Scope) parent() *Scope {
	if p := s.unit.Parent; p != nil {
		return p.Scope.(*Scope)
	}
	return nil
}

// together reports whether the scope is one of a Group that commits together.
func (s *Scope) together() bool { return s.unit.Group != nil }

// mayEnd refuses an early end, of one database or of all, of what is committed
// together with others, or by others.
func (s *Scope) mayEnd(w session.Wish, of *link.Database) error {
	switch {
	case s.adopted != nil && (of == nil || of == s.adopted):
		return s.adopted.Errorf("%w: it was begun by other code, which ends it", ErrOpenTransaction)
	case s.joins.Load() > 0:
		return fmt.Errorf("dbscope: %w: a function of Join runs in this unit, and whoever began the unit ends it", ErrOpenTransaction)
	case w == session.Commit && s.together():
		return fmt.Errorf("dbscope: %w: the functions of a Group that commits together cannot commit by themselves", ErrOpenTransaction)
	}
	return nil
}

// isPart reports whether what begins now is committed together with something else,
// though perhaps nothing was done yet.
func (s *Scope) isPart() bool { return s.together() || s.joins.Load() > 0 }

// doom lets only a rollback of the whole through, since half of something would be
// stored otherwise.
func (s *Scope) doom(why error) {
	s.mu.Lock()
	s.doomedBy.CompareAndSwap(nil, &why)
	s.mu.Unlock()
	for ss := range s.sessions() {
		if ss.Doom(why, 0); ss.Adopted != nil {
			ss.CloseRows(s.ctx) // whoever leaves the session makes it unable to commit
		}
	}
}

// doomed returns what a commit of the scope answers after doom, or nil.
func (s *Scope) doomed() error {
	if why := s.doomedBy.Load(); why != nil {
		return fmt.Errorf("dbscope: %w after: %w", ErrRolledBack, *why)
	}
	return nil
}

// sessions yields the current session of each DB, in the order of first use.
func (s *Scope) sessions() iter.Seq[*session.Session] {
	return func(yield func(*session.Session) bool) {
		for sl := range s.slots() {
			if ss := sl.current.Load(); ss != nil && !yield(ss) {
				return
			}
		}
	}
}

// slots yields the place of each DB, in the order of first use.
func (s *Scope) slots() iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		for sl := s.first.Load(); sl != nil && yield(sl); sl = sl.next.Load() {
		}
	}
}

// close ends the scope where last is set, and reports whether it was over.
func (s *Scope) close(last bool) bool {
	s.mu.Lock()
	was := s.ended.Load()
	s.ended.Store(was || last)
	s.mu.Unlock()
	if last && !was {
		s.unit.Close()
		s.unit.Leave()
	}
	return was
}

// endedError is the answer to any use of the scope after its end.
func (s *Scope) endedError() error {
	if why := s.abortedBy.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrRolledBack, *why)
	}
	return ErrScopeEnded
}

// aborted returns what a commit of the scope answers after Abort, or nil.
func (s *Scope) aborted() error {
	if s.abortedBy.Load() == nil {
		return nil
	}
	return fmt.Errorf("dbscope: %w", s.endedError())
}
