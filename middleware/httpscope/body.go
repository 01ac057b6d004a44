package httpscope

import (
	"errors"
	"io"
	"math"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
)

// body is that of a request that may be served again, or was read already, as
// with [BufferBody]. It keeps what the handler
// reads, and reads nothing by itself: a client may wait for an answer to the
// first part, or for a 100 Continue, before it sends the rest.
type body struct {
	src   io.ReadCloser
	limit int

	mu     sync.Mutex // held while src is read, as net/http does
	kept   []byte     // from the beginning
	spoilt bool       // it cannot be read again: src failed, or more was read than is kept

	only   atomic.Bool // no attempt follows: what is read need not be kept
	closed atomic.Bool // the handler has closed it, and src is still to be closed
}

// reading is the body as one attempt reads it.
type reading struct {
	*body
	at   int
	over atomic.Bool // closed, or the attempt has returned
}

// keepBody reports whether the request may be served again, as far as can be
// known now; the body is nil where there is nothing to keep. One that was read
// already is kept anyway.
func (a *Adapter) keepBody(r *http.Request, read *body) (b *body, repeatable bool) {
	switch {
	case read != nil:
		return read, a.opts.retry != nil && len(read.kept) <= a.opts.bodyLimit
	case a.opts.retry == nil:
		return nil, false
	case r.Body == nil || r.Body == http.NoBody:
		return nil, true
	case r.ContentLength > int64(a.opts.bodyLimit):
		return nil, false
	}
	return &body{src: r.Body, limit: a.opts.bodyLimit}, true
}

// open gives the request of an attempt the body from its beginning.
func (b *body) open(r *http.Request) *reading {
	if b == nil {
		return nil
	}
	rd := &reading{body: b}
	r.Body = likeBefore(r.Body, rd)
	return rd
}

// likeBefore returns the body that takes the place of another one, in the type
// that ParseForm looks for where that had it.
func likeBefore(before, body io.ReadCloser) io.ReadCloser {
	if reflect.TypeOf(before) == limited {
		return http.MaxBytesReader(nil, body, math.MaxInt64)
	}
	return body
}

var limited = reflect.TypeOf(http.MaxBytesReader(nil, http.NoBody, 0))

func (r *reading) Read(p []byte) (int, error) {
	if r.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if r.at < len(r.kept) {
		n := copy(p, r.kept[r.at:])
		r.at += n
		return n, nil
	}
	n, err := r.src.Read(p)
	r.at += n
	r.keep(p[:n], err)
	return n, err
}

// keep notes what was read. The caller holds mu.
func (b *body) keep(p []byte, err error) {
	failed := err != nil && !errors.Is(err, io.EOF)
	if failed || b.spoilt || b.only.Load() || len(p) > b.limit-len(b.kept) {
		b.spoilt, b.kept = true, nil
		return
	}
	b.kept = append(b.kept, p...)
}

// Close closes the server's body at the end of the last attempt, so that the
// next one can read it. Where another goroutine reads just now, Close is meant
// to stop it, and does so at once.
func (r *reading) Close() error {
	r.over.Store(true)
	if r.only.Load() || !r.mu.TryLock() {
		return r.src.Close()
	}
	defer r.mu.Unlock()
	r.closed.Store(true)
	return nil
}

// inMemory reports whether nothing is left to be read from the client.
func (r *reading) inMemory() bool { return r != nil && r.src == http.NoBody }

// again ends the attempt, and reports whether another one could read the body.
// One that a goroutine still reads it could not.
func (r *reading) again() bool {
	if r == nil {
		return true
	}
	r.over.Store(true)
	if !r.mu.TryLock() {
		return false
	}
	defer r.mu.Unlock()
	r.closed.Store(false)
	return !r.spoilt
}

// last tells that no other attempt follows.
func (r *reading) last() {
	if r != nil && !r.only.Swap(true) && r.closed.Load() {
		_ = r.src.Close() // as the server does with one that is left open
	}
}
