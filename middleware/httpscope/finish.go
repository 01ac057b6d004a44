package httpscope

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/dbscope/dbscope/middleware"
)

// finish is the end of a handler that returned, with an error of its own or nil. It
// reports whether the handler is to be called again, as again says, with another writer.
func (w *writer) finish(own error, again func(error) bool) bool {
	late := w.wait.End()
	p, erred := w.now(), own != nil
	err := late
	if p == failed {
		err = w.closed()
	}
	switch {
	case late != nil: // all is rolled back
	case p == failed || erred:
		w.tellFailure(own)
		w.report(w.scope.Rollback(ending{w}))
	default:
		err = w.opts.policy.Finish(ending{w}, w.scope, w.request, w.code())
	}
	// The client may be slow: give the connections back before it reads.
	w.report(w.scope.End(ending{w}))
	if p == holding && again(err) {
		w.drop()
		return true
	}
	w.last()
	if p == holding && erred && w.status != 0 && w.opts.policy.Commits(w.request, w.status) {
		if w.drop() {
			w.carry()
		}
		return false
	}
	if p != failed && late == nil {
		w.report(err)
	}
	if p == passing && err != nil { // a trailer may tell of a success
		dropTrailers(w.outer.Header())
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
	if late != nil && p == passing && !w.cut {
		panic(http.ErrAbortHandler) // for the server to cut it off
	}
	return false
}

// tellFailure tells observers of a handler's error, unless that says itself that the
// client is to blame.
func (w *writer) tellFailure(err error) {
	var coded interface{ StatusCode() int }
	switch {
	case err == nil, errors.As(err, &coded) && coded.StatusCode() < http.StatusInternalServerError:
	case w.status >= http.StatusBadRequest && w.status < http.StatusInternalServerError:
	case errors.Is(w.request.Context().Err(), context.Canceled): // nobody has seen it
	default:
		w.scope.Failed(err)
	}
}

// abandon is the end of a handler that did not return, and does nothing after
// finish.
func (w *writer) abandon() {
	if w.now() == ended {
		return
	}
	_ = w.wait.End()
	w.scope.Failed(middleware.ErrNotReturned)
	dropped := w.drop()
	w.report(w.scope.End(ending{w}))
	w.last()
	if dropped { // for who recovers and answers
		w.carry()
	}
}

// last is for the end of an attempt that no other one follows, before anything is
// sent that was not sent yet.
func (w *writer) last() {
	w.inner.reading.last()
	w.inner.giveBack()
	if w.failurePage != nil { // what the handler has added failed with the rest
		header := w.outer.Header()
		clear(header)
		maps.Copy(header, w.failurePage)
	}
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
