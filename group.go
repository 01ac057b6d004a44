package dbscope

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/internal/errs"
)

// Group runs functions side by side, each in a scope of its own, as Run does:
// a session serves one statement at a time, so that concurrent work needs
// several. It has the shape of errgroup.Group. A Group is used once; its
// methods are safe for concurrent use.
//
// Functions of one Group do not see each other's uncommitted work, nor that of
// the scope around them. Each takes a connection of its own while it works: one
// that waits for a connection while the scope around it holds one of the same
// pool gives up after 5 seconds, with an error that says so.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	opts   []Option
	wg     sync.WaitGroup
	places chan struct{} // nil without a limit

	mu       sync.Mutex
	errs     []error // of each function, in the order of Go
	first    error
	together bool
	done     []*Scope // with together: those that wait for the others
}

// NewGroup returns a Group. The context that its functions get is cancelled
// when one of them fails, and when Wait returns; ctx's scope, if it has one, is
// not theirs. The options are those of each function's scope.
func NewGroup(ctx context.Context, opts ...Option) *Group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, cancel: cancel, opts: opts}
}

// SetLimit makes Go block while n functions run; 0 and less mean no limit,
// which is the default. Call it before the first Go.
func (g *Group) SetLimit(n int) {
	g.places = nil
	if n > 0 {
		g.places = make(chan struct{}, n)
	}
}

// CommitTogether makes the functions one unit: nothing is committed before all
// of them have returned nil; then all are, one after the other, or nothing is.
// Until then each keeps its connection, so that the pool needs one for each
// function, whatever the limit; one that gets none within 5 seconds gives up.
// Early commits are refused ([ErrOpenTransaction]), [DB.Atomic] is a savepoint,
// and [Retry] does not count. Call it before the first Go.
func (g *Group) CommitTogether() { g.together = true }

// Go calls fn in a goroutine and a scope of its own, which is committed when fn
// returns nil and undone otherwise. It blocks while the limit is reached. A
// panic of fn undoes its work and ends the program, as in any goroutine.
func (g *Group) Go(fn func(context.Context) error) {
	if g.places != nil {
		g.places <- struct{}{}
	}
	g.mu.Lock()
	place := len(g.errs)
	g.errs = append(g.errs, nil)
	g.mu.Unlock()
	g.wg.Go(func() {
		err := errors.New("dbscope: a function of a Group ended its goroutine")
		defer func() {
			g.note(place, err)
			if g.places != nil {
				<-g.places
			}
		}()
		if g.together {
			err = g.hold(fn)
		} else {
			err = Run(g.ctx, fn, append(slices.Clip(g.opts), awaitRollback)...)
		}
	})
}

// awaitRollback makes the work of a function undone when the Group's Wait returns.
var awaitRollback = scopeOption(func(o *scopeOptions) { o.awaitsRollback = true })

func (g *Group) note(place int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.errs[place] = err
	if err != nil && g.first == nil {
		g.first = err
		g.cancel(err)
	}
}

// hold runs fn and leaves its scope open.
func (g *Group) hold(fn func(context.Context) error) (err error) {
	ctx, s := Begin(g.ctx, g.opts...)
	s.unit.Group = g
	held := false
	defer func() {
		if !held {
			err = errs.Joined(err, s.End(ctx))
		}
	}()
	if err := fn(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done, held = append(g.done, s), true
	s.unit.Done.Store(true)
	if s.box != nil { // where the others wait for this
		s.box.Wake()
	}
	return nil
}

// Wait blocks until all functions have returned, and returns their errors: the
// first that happened, joined by the others in the order of Go, without those
// that only say that the first one cancelled them. With [Group.CommitTogether]
// it then commits, and returns a [*CommitError] where that fails.
func (g *Group) Wait() error {
	g.wg.Wait()
	defer g.cancel(context.Canceled)
	g.mu.Lock()
	all, done := []error{g.first}, g.done
	g.done = nil
	for _, err := range g.errs {
		if err != nil && !errs.Only(err, g.first) {
			all = append(all, err)
		}
	}
	g.mu.Unlock()
	defer func() { // does something only when a hook of the commit panics
		for _, s := range done {
			_ = s.End(g.ctx)
		}
	}()
	if len(done) > 0 {
		all = append(all, finish(g.ctx, session.WishTo(g.first == nil), isOver, done...))
	}
	return errs.Joined(all...)
}
