package dbscope

import (
	"context"
	"errors"
	"sync"
)

// errLeft means that new sessions go to another host by now.
var errLeft = errors.New("the host was left")

// waiting is the context with which a session takes a connection. It ends also
// when the host is left meanwhile, for its connections may never come back.
//
// A pool looks at Done once and asks a second time only to wait for it, so that
// a connection at hand costs no more than with the session's own context.
type waiting struct {
	context.Context
	hosts *hosts
	host  *host
	since uint64 // the hosts' departures before the host was chosen
	scope *Scope // of the unit that waits, nil without one

	mu     sync.Mutex
	looked bool
	over   bool            // nobody waits any more
	both   context.Context // once somebody waits
	cancel context.CancelCauseFunc
	among  *waiter // of the units that may wait for each other, or nil
}

func (w *waiting) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looked || w.over && w.both == nil {
		w.looked = true
		return w.Context.Done()
	}
	if w.both == nil {
		w.both, w.cancel = context.WithCancelCause(w.Context)
		w.hosts.join(w)
		w.among = w.watch()
	}
	return w.both.Done()
}

func (w *waiting) Err() error { return w.now().Err() }

func (w *waiting) Value(key any) any { return w.now().Value(key) }

func (w *waiting) now() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.both == nil {
		return w.Context
	}
	return w.both
}

// stop ends the wait, and returns what has ended it before: errLeft, errStuck, or
// an error of the caller's context.
func (w *waiting) stop() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.both == nil {
		return nil
	}
	w.hosts.part(w)
	if w.among != nil {
		w.among.part()
	}
	why := context.Cause(w.both)
	w.cancel(nil)
	return why
}

// join makes the wait end when its host is left.
func (h *hosts) join(w *waiting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.departures.Load() != w.since {
		w.cancel(errLeft)
		return
	}
	if w.host.waiting == nil {
		w.host.waiting = map[*waiting]struct{}{}
	}
	w.host.waiting[w] = struct{}{}
}

func (h *hosts) part(w *waiting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(w.host.waiting, w)
}

// depart sends those who wait for a connection of the host elsewhere. The
// caller holds mu, and new sessions find another host.
func (h *hosts) depart(left *host) {
	h.departures.Add(1)
	for w := range left.waiting {
		w.cancel(errLeft)
	}
	clear(left.waiting)
}

// scopeOf returns the scope that waits when the session does, or nil.
func (s *session) scopeOf(ctx context.Context) *Scope {
	if s.slot != nil {
		return s.slot.scope
	}
	return scopeOf(ctx)
}

// waiting returns the context with which the session takes a connection. Others
// may hold one that was used, so each is used once.
func (s *session) waiting(ctx context.Context, since uint64) *waiting {
	w := &s.wait
	if w.Context != nil {
		w = new(waiting)
	}
	w.Context, w.hosts, w.host, w.since, w.scope = ctx, s.db.hosts, s.host, since, s.scopeOf(ctx)
	return w
}
