package watch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/observe"
)

// Unit is a unit of work as its observers know it.
type Unit struct {
	ctx   context.Context // with which it began
	event observe.Event   // of its beginning, without its name
	namer Namer           // or nil
	name  atomic.Pointer[string]

	// Held while observers are asked or told, which must not lock the unit's own.
	mu        sync.Mutex
	followers []follower
	over      bool

	// Guarded by noted, since observers may be told of a transaction's end meanwhile.
	noted        sync.Mutex
	transactions int
	outcome      observe.Outcome
	failure      error
}

// follower is an observer that wants to know more of the unit.
type follower struct {
	observer observe.Observer
	own      bool // given to the unit itself, and so told of all its DBs
	op       Op
}

// New returns a unit that began in the context around with the event; names is its own
// context, or also around. Nobody is told yet.
func New(around, names context.Context, e observe.Event) *Unit {
	e.Kind = observe.Unit
	return &Unit{ctx: around, event: e, namer: namerOf(names)}
}

// Name returns the unit's name, as far as it is known.
func (u *Unit) Name() string {
	if known := u.name.Load(); known != nil {
		return *known
	}
	if u.namer == nil {
		return ""
	}
	name, final := u.namer.UnitName()
	if final {
		u.name.Store(&name)
	}
	return name
}

// Begin tells the unit's own observers that it begins, and returns the context for it.
func (u *Unit) Begin(ctx context.Context, observers []observe.Observer) context.Context {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.askAll(ctx, observers)
}

func (u *Unit) askAll(ctx context.Context, observers []observe.Observer) context.Context {
	if len(observers) == 0 {
		return ctx
	}
	return u.askAll(u.ask(ctx, observers[0], true), observers[1:])
}

func (u *Unit) ask(ctx context.Context, o observe.Observer, own bool) context.Context {
	if u.over || slices.ContainsFunc(u.followers, func(f follower) bool { return same(f.observer, o) }) {
		return ctx
	}
	e := u.event
	e.Name = u.Name()
	ctx, op := Start(ctx, o, e)
	u.followers = append(u.followers, follower{o, own, op})
	return ctx
}

// DB tells observers of a DB that the unit uses it, unless they know the unit, and
// returns who is to be told of the DB: they and the unit's own, or nil.
func (u *Unit) DB(name string, observers []observe.Observer) *DB {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, o := range observers {
		_ = u.ask(u.ctx, o, false)
	}
	above := u.spans(func(f *follower) bool {
		return f.own || slices.ContainsFunc(observers, func(o observe.Observer) bool { return same(f.observer, o) })
	})
	if above == nil {
		return nil
	}
	return &DB{above: above, unit: u, event: observe.Event{DB: name, Unit: u.event.Unit, Parent: u.event.Parent}}
}

// spans is who is told of something in the unit. The caller holds mu.
func (u *Unit) spans(of func(*follower) bool) observe.Observer {
	var all []observe.Observer
	for i := range u.followers {
		if f := &u.followers[i]; of(f) {
			all = append(all, f.op.inside())
		}
	}
	return observe.Together(all...)
}

// Start tells all who follow the unit, if it is not nil, of something in it that is not
// one DB's, also after its end.
func (u *Unit) Start(ctx context.Context, e observe.Event) (context.Context, Op) {
	if u == nil {
		return ctx, Op{}
	}
	u.mu.Lock()
	all := u.spans(func(*follower) bool { return true })
	u.mu.Unlock()
	e.Unit, e.Parent, e.Name = u.event.Unit, u.event.Parent, u.Name()
	return Start(ctx, all, e)
}

// Refused tells that a use of the DB was refused, where the error, which may be nil, says
// that the unit is over, or that another goroutine uses its session.
func (u *Unit) Refused(ctx context.Context, db string, err error) {
	if u == nil || !isRefusal(err) {
		return
	}
	_, op := u.Start(ctx, observe.Event{Kind: observe.Refusal, DB: db})
	op.End(observe.None, err)
}

func isRefusal(err error) bool {
	return err != nil && (errors.Is(err, errs.ErrScopeEnded) || errors.Is(err, errs.ErrSessionBusy))
}

// Transaction notes that one of the unit is over.
func (u *Unit) Transaction(o observe.Outcome) {
	if u == nil {
		return
	}
	u.noted.Lock()
	defer u.noted.Unlock()
	u.transactions++
	if u.outcome = cmp.Or(u.outcome, o); u.outcome != o {
		u.outcome = observe.Mixed
	}
}

// Failed notes what the unit fails with. The first counts.
func (u *Unit) Failed(err error) {
	if u == nil || err == nil {
		return
	}
	u.noted.Lock()
	defer u.noted.Unlock()
	if u.failure == nil {
		u.failure = err
	}
}

// End tells all who follow the unit that it is over, once: which attempt it was, and
// whether there is to be another one after what it failed with.
func (u *Unit) End(attempt int, isRunAgain func(error) bool) {
	if u == nil {
		return
	}
	u.noted.Lock()
	transactions, outcome, failure := u.transactions, u.outcome, u.failure
	u.noted.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return
	}
	u.over = true
	name, again := u.Name(), isRunAgain(failure)
	for i := range slices.Backward(u.followers) {
		op := u.followers[i].op // a copy, so that it is still there for what comes after the end
		op.event.Name, op.event.Transactions, op.event.Attempt, op.event.RunAgain = name, transactions, attempt, again
		op.End(outcome, failure)
	}
}
