package httpscope

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
)

// begin decides the scope before the handler is done, and sends what is held.
// After an error nothing but the failure page reaches the client.
func (w *writer) begin(why string) error {
	w.inner.reading.last()
	// No more of the request than its route, since the goroutine that begins the
	// response may be another one than the handler's.
	w.inner.outer.Pattern = w.request.Pattern
	if !w.scope.ReadOnly() && w.scope.Busy() {
		err := fmt.Errorf("httpscope: the response %s while rows are open in a scope that may write, "+
			"and the commit would close them: close the rows first, raise HoldLimit, or use a read-only scope: %w",
			why, dbscope.ErrSessionBusy)
		w.report(err) // a handler may overlook it, and Flush cannot return it
		return w.fail(err)
	}
	if err := w.decideEarly(); err != nil {
		w.report(err)
		_ = w.fail(fmt.Errorf("httpscope: the response was replaced by the failure page: %w", err))
		w.sendFailure(err)
		w.failurePage = w.outer.Header().Clone()
		return w.closed()
	}
	if err := w.closed(); err != nil { // a hook of the commit has begun the response, and failed
		return err
	}
	h := w.pass()
	if h == nil { // or not failed, or the client was too slow meanwhile
		return w.closed()
	}
	defer h.put()
	if w.status == 0 { // hijacked before any of it
		return nil
	}
	return w.send(func() error { return h.send(w) })
}

// decideEarly decides a scope that may write. A read-only one has nothing to
// decide, and goes on where rows are open; what else it holds is given back.
func (w *writer) decideEarly() error {
	if w.scope.ReadOnly() {
		w.success = w.opts.policy.Commits(w.request, w.code())
	} else if err := w.decide(); err != nil {
		return err
	}
	return w.scope.Stream(ending{w}, w.success)
}

// proceed is for each further part of a response that has begun. It comes before
// the part is sent, for which a slow client may take its time.
func (w *writer) proceed() { w.report(w.scope.Stream(ending{w}, w.success)) }

// decide commits the scope or rolls it back, by the status. It returns the
// error of a commit that was to be.
func (w *writer) decide() error {
	return w.opts.policy.Decide(ending{w}, w.scope, w.request, w.code())
}

// code is the status of the response, also where the handler has set none.
func (w *writer) code() int {
	switch {
	case w.status != 0:
		return w.status
	case w.hijacking:
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK
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

// flushFailure flushes the failure page, if it was sent: the handler may go on
// for long, and the client waits for what was flushed.
func (w *writer) flushFailure(err error) error {
	w.mu.Lock()
	sent := w.held == nil
	w.mu.Unlock()
	if sent {
		_ = http.NewResponseController(w.outer).Flush()
	}
	return err
}

// report passes an error on that the handler does not get. That the client was
// too slow is told once, by who has noticed it.
func (w *writer) report(err error) {
	if err != nil && !errors.As(err, new(*middleware.SlowClientError)) {
		w.tell(err)
	}
}

func (w *writer) tell(err error) {
	if p := w.now(); p == passing || p == hijacked {
		err = fmt.Errorf("httpscope: after the response had begun: %w", err)
	}
	w.opts.policy.Report(w.request, err)
}
