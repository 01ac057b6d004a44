package httpscope

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/dbscope/dbscope"
)

// writer holds the response until the scope is decided. Like every
// ResponseWriter it is for one goroutine at a time, and is over when the
// handler returns; but one that is kept longer does no harm: it answers with
// errors, and what is pooled is out of its reach.
type writer struct {
	outer   http.ResponseWriter
	request *http.Request
	scope   *dbscope.Scope
	opts    *options

	status    int   // 0 until WriteHeader
	declared  int64 // the handler's Content-Length, or -1
	written   int64 // while held
	hijacking bool

	mu    sync.Mutex // guards the rest; nothing foreign is called under it
	phase phase
	held  *held // nil once sent or dropped
	err   error // why the phase is failed
}

type phase uint8

const (
	holding phase = iota
	passing       // the response has begun
	hijacked
	failed // the client gets, or has got, the failure page
	ended
)

var errEnded = errors.New("httpscope: the handler of this ResponseWriter has returned")

func newWriter(outer http.ResponseWriter, r *http.Request, s *dbscope.Scope, o *options) *writer {
	w := &writer{outer: outer, request: r, scope: s, opts: o, declared: -1, held: pool.Get().(*held)}
	w.held.before.take(outer.Header())
	return w
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.outer }

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
		w.outer.WriteHeader(status)
		return
	}
	w.status = status
	header := w.outer.Header()
	if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		w.declared = n
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held != nil {
		w.held.sent.take(header)
	}
}

// Write holds the bytes, or passes them on once the response has begun.
func (w *writer) Write(p []byte) (int, error) {
	if held, err := holdBack(w, p); err != nil {
		return 0, err
	} else if held {
		return len(p), nil
	}
	return w.outer.Write(p)
}

// WriteString is Write for strings.
func (w *writer) WriteString(s string) (int, error) {
	if held, err := holdBack(w, s); err != nil {
		return 0, err
	} else if held {
		return len(s), nil
	}
	return io.WriteString(w.outer, s)
}

// holdBack reports whether the bytes are held. Where they pass the limit, it
// begins the response.
func holdBack[T []byte | string](w *writer, p T) (bool, error) {
	if w.now() == holding && w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != holding {
		return false, w.refusal()
	}
	if len(p) == 0 {
		return true, nil
	}
	if !bodyAllowed(w.status) {
		return false, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p)) // also where they are refused, as net/http does
	if w.declared >= 0 && w.written > w.declared {
		return false, http.ErrContentLength
	}
	if len(w.held.body)+len(p) <= w.opts.limit {
		hold(w.held, p, w.opts.limit)
		return true, nil
	}
	w.mu.Unlock()
	defer w.mu.Lock()
	return false, w.begin("passed the HoldLimit of " + strconv.Itoa(w.opts.limit) + " bytes")
}

// ReadFrom holds what the limit allows, and leaves the rest to the outer
// writer, which may know how to send a file without copying it.
func (w *writer) ReadFrom(src io.Reader) (n int64, err error) {
	if room, ok := w.room(); ok {
		buf := copyBuffers.Get().(*[copySize]byte)
		n, err = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(src, room+1), buf[:])
		copyBuffers.Put(buf)
		if err != nil || n <= room {
			return n, err
		}
	}
	w.mu.Lock()
	err = w.refusal()
	w.mu.Unlock()
	if err != nil {
		return n, err
	}
	rest, err := io.Copy(w.outer, src)
	return n + rest, err
}

const copySize = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// room tells how many more bytes are held before the response begins.
func (w *writer) room() (int64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != holding {
		return 0, false
	}
	return int64(w.opts.limit - len(w.held.body)), true
}

// Flush begins the response, and sends what there is of it.
func (w *writer) Flush() { _ = w.FlushError() } // the failure is kept, see begin

// FlushError is Flush for [http.ResponseController]. Where the outer writer
// cannot flush, the response stays held.
func (w *writer) FlushError() error {
	if !canFlush(w.outer) {
		return fmt.Errorf("httpscope: the outer ResponseWriter cannot flush: %w", http.ErrNotSupported)
	}
	if w.now() == holding {
		if w.status == 0 {
			w.WriteHeader(http.StatusOK)
		}
		if err := w.begin("was flushed"); err != nil {
			return err
		}
	}
	if err := w.closed(); err != nil {
		return err
	}
	return http.NewResponseController(w.outer).Flush()
}

// Hijack begins the response, sends what there is of it, and lets the handler
// take the connection over.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !canHijack(w.outer) {
		return nil, nil, fmt.Errorf("httpscope: the outer ResponseWriter cannot be hijacked: %w", http.ErrNotSupported)
	}
	if w.now() == holding {
		w.hijacking = true
		if err := w.begin("was hijacked"); err != nil {
			return nil, nil, err
		}
	}
	if err := w.closed(); err != nil {
		return nil, nil, err
	}
	conn, rw, err := http.NewResponseController(w.outer).Hijack()
	if w.hijacking = err == nil; w.hijacking {
		w.enter(hijacked)
	}
	return conn, rw, err
}

func (w *writer) now() phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase
}

func (w *writer) enter(p phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = p
}

// take gets what is held and enters the phase in which it is not.
func (w *writer) take(p phase) *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held
	w.phase, w.held = p, nil
	return h
}

func (w *writer) closed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusal()
}

// refusal says why nothing can be written. The caller holds mu.
func (w *writer) refusal() error {
	switch w.phase {
	case failed:
		return w.err
	case hijacked:
		return http.ErrHijacked
	case ended:
		return errEnded
	}
	return nil
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

type unwrapper interface{ Unwrap() http.ResponseWriter }

func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case unwrapper:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

func canHijack(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return true
		case unwrapper:
			w = t.Unwrap()
		default:
			return false
		}
	}
}
