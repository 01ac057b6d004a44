package dbscope

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/hooks"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
)

// Scope is one unit of work. It travels in a context and holds at most one
// session for each DB. It is safe for concurrent use; it must end with
// Release, which [Run] and the middlewares do.
type Scope struct {
	ctx    context.Context // that carries it
	parent *Scope          // the caller's scope, which may hold connections meanwhile
	unit   unit.Unit       // what a sandbox sees of it; with a Group if that commits together
	box    unit.Sandbox    // that gives out the connections, in a test, or nil
	run    bool            // begun by Run, which has it on its stack
	opts   scopeOptions

	first        atomic.Pointer[slot] // in order of first use; appended under mu
	ended        atomic.Bool          // set under mu
	rollbackOnly atomic.Bool
	streams      atomic.Bool           // its answer has begun to leave: it keeps no connection without a transaction
	hooked       atomic.Bool           // there has been a hook; set under mu
	committed    atomic.Bool           // something of it is, or may be
	transient    atomic.Bool           // a session of it was undone by an error that Retry acts on
	met          atomic.Bool           // a statement failed with such an error
	watcher      Watcher               // of the connections, or nil
	connections  atomic.Int32          // taken by it, and by those inside it
	why          atomic.Pointer[error] // it was ended by Abort; set under mu

	ending     sync.Mutex    // for one at a time who ends the scope, or all that is open in it; before any session's
	mu         sync.Mutex    // guards the list of slots, each slot's spare and hooks, and the rest
	hooks      hooks.Waiting // of the scope itself
	blockHooks map[*block]*hooks.OfBlock
	turns      uint64     // hooks registered so far
	sealed     bool       // none of BeforeCommit may come any more
	due        hooks.List // of the scope's own, once its end has decided that
	nested     *Scope     // one of those begun inside it that are not over; its mu guards the next two of each
	previous   *Scope     // another one inside the same parent
	next       *Scope
}

// Watcher is told by [Scope.Watch].
type Watcher interface {
	// HoldingChanged says that [Scope.Holding] may answer otherwise now. It is
	// called with nothing locked, by whatever goroutine takes or gives back a
	// connection, perhaps by several at once, and must not block.
	HoldingChanged()
}

// slot is the place of one DB in one scope. Its methods are in slot.go.
type slot struct {
	db      *link.Database
	scope   *Scope
	current atomic.Pointer[session] // nil between transactions
	next    atomic.Pointer[slot]
	holding atomic.Int32               // connections taken, spare or in use
	pool    atomic.Pointer[pools.Host] // that the last one was taken from
	blocks  atomic.Bool                // there has been an Atomic block
	uses    atomic.Int64               // statements admitted so far

	// The scope's mu guards the rest.
	spare  driver.Conn   // the connection between two transactions
	engine driver.Engine // that the spare is of
	hooks  hooks.Waiting // of the session, or of the next one
	due    hooks.List    // of sessions that have ended
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
	s.box = unit.SandboxOf(ctx)
	return c, s
}

// joinParent makes the scope one of those inside the innermost scope around it
// that is not over.
func (s *Scope) joinParent(around *Scope) {
	for p := around; p != nil; p = p.parent {
		if p.takeIn(s) {
			s.parent, s.unit.Parent = p, &p.unit
			return
		}
	}
}

func (s *Scope) takeIn(inner *Scope) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return false
	}
	if inner.next = s.nested; inner.next != nil {
		inner.next.previous = inner
	}
	s.nested = inner
	return true
}

// leaveParent is for the scope's end.
func (s *Scope) leaveParent() {
	p := s.parent
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.previous != nil:
		s.previous.next = s.next
	case p.nested == s:
		p.nested = s.next
	default:
		return // it has left before
	}
	if s.next != nil {
		s.next.previous = s.previous
	}
	s.previous, s.next = nil, nil
}

// begunInside returns the scopes inside it that are not over.
func (s *Scope) begunInside() (all []*Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for inner := s.nested; inner != nil; inner = inner.next {
		all = append(all, inner)
	}
	return all
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
	return s
}

// Detach returns a context with the same values, deadline and cancellation but
// without a scope, for work that must not join the caller's.
func Detach(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, (*Scope)(nil))
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

// together reports whether the scope is one of a Group that commits together.
func (s *Scope) together() bool { return s.unit.Group != nil }

// mayCommit refuses an early commit of what is committed together with others.
func (s *Scope) mayCommit() error {
	if !s.together() {
		return nil
	}
	return fmt.Errorf("dbscope: %w: the functions of a Group that commits together cannot commit by themselves", ErrOpenTransaction)
}

// sessions yields the current session of each DB, in the order of first use.
func (s *Scope) sessions() iter.Seq[*session] {
	return func(yield func(*session) bool) {
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
		s.leaveParent()
	}
	return was
}

// endedError is the answer to any use of the scope after its end.
func (s *Scope) endedError() error {
	if why := s.why.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrRolledBack, *why)
	}
	return ErrScopeEnded
}

// aborted returns what a commit of the scope answers after Abort, or nil.
func (s *Scope) aborted() error {
	if s.why.Load() == nil {
		return nil
	}
	return fmt.Errorf("dbscope: %w", s.endedError())
}
