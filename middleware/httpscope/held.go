package httpscope

import (
	"maps"
	"net/http"
	"strconv"
	"sync"
)

// held is what a writer keeps back, from a pool. The handler never gets hold
// of it.
type held struct {
	body   []byte
	before headerCopy // the outer headers before the handler
	sent   headerCopy // the headers at the time of WriteHeader
}

var pool = sync.Pool{New: func() any { return new(held) }}

// A body that grew larger than this is left to the garbage collector.
const maxPooled = defaultHoldLimit

func (h *held) put() {
	if cap(h.body) > maxPooled {
		h.body = nil
	}
	h.body = h.body[:0]
	h.before.reset()
	h.sent.reset()
	pool.Put(h)
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
		err := w.refusal()
		if err == nil && w.tooLong && len(p) > 0 { // net/http would know
			err = http.ErrContentLength
		}
		return false, err
	}
	if len(p) == 0 {
		return true, nil
	}
	if !bodyAllowed(w.status) {
		return false, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p)) // also where they are refused, as net/http does
	if w.tooLong = w.declared >= 0 && w.written > w.declared; w.tooLong {
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

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// hold appends to the body, which does not outgrow the limit.
func hold[T []byte | string](h *held, p T, limit int) {
	if need := len(h.body) + len(p); need > cap(h.body) {
		size := min(max(2*cap(h.body), need, 4<<10), max(limit, need))
		h.body = append(make([]byte, 0, size), h.body...)
	}
	h.body = append(h.body, p...)
}

// send passes the response on, with the headers of the time of WriteHeader, the
// token and the trailers of now.
func (h *held) send(w *writer) error {
	header := w.outer.Header()
	var now http.Header
	if !h.sent.equal(header) {
		now = maps.Clone(header)
		h.sent.restore(header)
	}
	w.carry()
	w.outer.WriteHeader(w.status)
	var err error
	if len(h.body) > 0 {
		_, err = w.outer.Write(h.body)
	}
	if now != nil {
		h.sent.addTrailers(header, now)
	}
	return err
}
