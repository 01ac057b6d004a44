package httpscope

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/dbscope/dbscope/middleware"
)

// writer holds the response until the scope is decided. Like every
// ResponseWriter it is for one goroutine at a time, and is over when the
// handler returns; but one that is kept longer does no harm: it answers with
// errors, and what is pooled is out of its reach.
type writer struct {
	outer   http.ResponseWriter
	inner   inner
	request *http.Request // the inner one
	scope   middleware.Scope
	opts    *options

	status    int   // 0 until WriteHeader
	declared  int64 // the handler's Content-Length, or -1
	written   int64 // while held
	tooLong   bool  // more was to be written, while held, than was declared
	hijacking bool
	success   bool // of a read-only scope whose response has begun: CommitWhen said so

	mu    sync.Mutex // guards the rest; nothing foreign is called under it
	phase phase
	held  *held // nil once sent or dropped
	err   error // why the phase is failed

	wait middleware.ClientWait
	body clientBody // of the request
	cut  bool       // the response was cut off, since the client was too slow

	failurePage http.Header // the outer headers after it, where it was sent before the handler returned
}

func newWriter(outer http.ResponseWriter, in inner, s middleware.Scope, o *options) *writer {
	w := &writer{outer: outer, inner: in, request: in.Request, scope: s, opts: o, declared: -1, held: pool.Get().(*held)}
	w.held.before.take(outer.Header())
	o.policy.WaitForClient(&w.wait, s, clientSide{w})
	w.watchBody()
	return w
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.outer }

// CloseNotify is for libraries that know no contexts: gin's Stream panics
// without it.
func (w *writer) CloseNotify() <-chan bool {
	gone := make(chan bool, 1)
	context.AfterFunc(w.request.Context(), func() { gone <- true })
	return gone
}

// Header returns the outer writer's headers.
func (w *writer) Header() http.Header {
	if w.now() == ended {
		return http.Header{}
	}
	return w.outer.Header()
}

// WriteHeader notes the status and the headers of now. Informational responses
// go straight through.
func (w *writer) WriteHeader(status int) {
	switch p := w.now(); {
	case p == passing:
		w.outer.WriteHeader(status) // superfluous, unless a hijack went wrong
		if w.status == 0 && status >= 200 {
			w.status = status
		}
		return
	case p != holding || w.status != 0:
		return
	}
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http does
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		_ = w.send(func() error { w.outer.WriteHeader(status); return nil })
		return
	}
	w.status = status
	header := w.outer.Header()
	if length := header.Get("Content-Length"); length != "" { // parsing nothing makes an error
		if n, err := strconv.ParseInt(length, 10, 64); err == nil && n >= 0 {
			w.declared = n
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held != nil {
		w.held.sent.take(header)
	}
}

// Write holds the bytes, or passes them on once the response has begun.
func (w *writer) Write(p []byte) (n int, err error) {
	if held, err := holdBack(w, p); err != nil {
		return 0, err
	} else if held {
		return len(p), nil
	}
	w.proceed()
	err = w.send(func() (err error) { n, err = w.outer.Write(p); return err })
	return n, err
}

// WriteString is Write for strings.
func (w *writer) WriteString(s string) (n int, err error) {
	if held, err := holdBack(w, s); err != nil {
		return 0, err
	} else if held {
		return len(s), nil
	}
	w.proceed()
	err = w.send(func() (err error) { n, err = io.WriteString(w.outer, s); return err })
	return n, err
}
