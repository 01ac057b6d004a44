package httpscope

import (
	"fmt"
	"net/http"
	"time"

	"github.com/dbscope/dbscope"
)

// begin decides the scope before the handler is done, and sends what is held.
// After an error nothing but the failure page reaches the client.
func (w *writer) begin(why string) error {
	if !w.scope.ReadOnly() {
		if w.scope.Busy() {
			err := fmt.Errorf("httpscope: the response %s while rows are open in a scope that may write, "+
				"and the commit would close them: close the rows first, raise HoldLimit, or use a read-only scope: %w",
				why, dbscope.ErrSessionBusy)
			w.report(err) // a handler may overlook it, and Flush cannot return it
			return w.fail(err)
		}
		if err := w.decide(); err != nil {
			w.report(err)
			_ = w.fail(fmt.Errorf("httpscope: the response was replaced by the failure page: %w", err))
			w.sendFailure(err)
			return w.closed()
		}
	}
	h := w.take(passing)
	if h == nil { // begun meanwhile, by a hook of the commit
		return w.closed()
	}
	defer h.put()
	if w.status == 0 { // hijacked before any of it
		return nil
	}
	return h.send(w)
}

// finish is the end of a handler that returned, with an error of its own or
// not. It reports whether the handler is to be called again, as again says,
// with another writer.
func (w *writer) finish(erred bool, again func(error) bool) bool {
	p := w.now()
	var err error
	if p == failed {
		err = w.closed()
	}
	if p == failed || erred {
		w.report(w.scope.Rollback(ending{w}))
	} else {
		err = w.decide()
	}
	// The client may be slow: give the connections back before it reads.
	w.report(w.scope.Release(ending{w}))
	if p == holding && again(err) {
		w.drop()
		return true
	}
	if p == holding && erred && w.status != 0 && w.opts.policy.Commit(w.request, w.status) {
		if w.drop() {
			w.carry()
		}
		return false
	}
	if p != failed {
		w.report(err)
	}
	if p == failed || p == holding && err != nil {
		w.sendFailure(err)
	} else if h := w.take(ended); h != nil {
		defer h.put()
		if w.status != 0 {
			_ = h.send(w) // a client that is gone is not the handler's to know
		} else {
			w.carry()
		}
	}
	w.enter(ended)
	return false
}

// drop forgets what is held, and reports whether there was something.
func (w *writer) drop() bool {
	h := w.take(ended)
	if h == nil {
		return false
	}
	h.before.restore(w.outer.Header())
	h.put()
	return true
}

// carry puts the token into the headers, just before they are out of reach.
func (w *writer) carry() {
	if token := w.opts.policy.NewToken(w.request.Context()); token != "" {
		header := w.outer.Header()
		w.opts.token.Put(token, header.Set, header.Add)
	}
}

// abandon is the end of a handler that did not return, and does nothing after
// finish.
func (w *writer) abandon() {
	if w.now() == ended {
		return
	}
	dropped := w.drop()
	w.report(w.scope.Release(ending{w}))
	if dropped { // for who recovers and answers
		w.carry()
	}
}

// ending is the request's context, and leads from what the end of the scope
// reports to the request.
type ending struct{ w *writer }

type requestKey struct{}

func (e ending) Deadline() (time.Time, bool) { return e.w.request.Context().Deadline() }
func (e ending) Done() <-chan struct{}       { return e.w.request.Context().Done() }
func (e ending) Err() error                  { return e.w.request.Context().Err() }

func (e ending) Value(key any) any {
	if key == (requestKey{}) {
		return e.w.request
	}
	return e.w.request.Context().Value(key)
}

// decide commits the scope or rolls it back, by the status. It returns the
// error of a commit that was to be.
func (w *writer) decide() error {
	status := w.status
	if status == 0 {
		status = http.StatusOK
		if w.hijacking {
			status = http.StatusSwitchingProtocols
		}
	}
	return w.opts.policy.Decide(ending{w}, w.scope, w.request, status)
}

// fail makes every further use of the writer answer with the error.
func (w *writer) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase, w.err = failed, err
	return err
}

// sendFailure replaces what is held by the failure page, once.
func (w *writer) sendFailure(err error) {
	h := w.take(failed)
	if h == nil {
		return
	}
	h.before.restore(w.outer.Header())
	h.put()
	w.carry()
	w.opts.failure(w.outer, w.request, err)
}

// report passes an error on that the handler does not get.
func (w *writer) report(err error) {
	if err == nil {
		return
	}
	if p := w.now(); p == passing || p == hijacked {
		err = fmt.Errorf("httpscope: after the response had begun: %w", err)
	}
	w.opts.policy.Report(w.request, err)
}
