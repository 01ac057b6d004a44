package httpscope

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"sync"
)

// ReadFrom holds what the limit allows, and leaves the rest to the outer
// writer, which may know how to send a file without copying it.
func (w *writer) ReadFrom(src io.Reader) (n int64, err error) {
	if room, ok := w.room(); ok {
		buf := copyBuffers.Get().(*[copySize]byte)
		part := max(room, room+1) // one byte more, unless there is no such number
		n, err = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(src, part), buf[:])
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
	if !isFile(src) {
		src = pausing{src, &w.wait}
	}
	w.proceed()
	var rest int64
	err = w.send(func() (err error) { rest, err = io.Copy(w.outer, src); return err })
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
			return w.flushFailure(err)
		}
	}
	if err := w.closed(); err != nil {
		return err
	}
	w.proceed()
	return w.send(http.NewResponseController(w.outer).Flush)
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

// chain yields the writer and those that it wraps, as [http.ResponseController]
// finds them.
func chain(w http.ResponseWriter) iter.Seq[http.ResponseWriter] {
	return func(yield func(http.ResponseWriter) bool) {
		for yield(w) {
			inner, wraps := w.(interface{ Unwrap() http.ResponseWriter })
			if !wraps {
				return
			}
			w = inner.Unwrap()
		}
	}
}

func canFlush(w http.ResponseWriter) bool {
	for w := range chain(w) {
		switch w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		}
	}
	return false
}

func canHijack(w http.ResponseWriter) bool {
	for w := range chain(w) {
		if _, can := w.(http.Hijacker); can {
			return true
		}
	}
	return false
}
