package httpscope

import (
	"maps"
	"net/http"
	"slices"
	"strings"
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

// headerCopy is a flat copy of a header that can be pooled.
type headerCopy struct {
	keys   []string
	ends   []int // of each key's values
	values []string
}

func (c *headerCopy) take(h http.Header) {
	for k, v := range h {
		c.keys = append(c.keys, k)
		c.values = append(c.values, v...)
		c.ends = append(c.ends, len(c.values))
	}
}

// each yields the keys with their values, as long as yield wants more.
func (c *headerCopy) each(yield func(key string, values []string) bool) {
	start := 0
	for i, k := range c.keys {
		if !yield(k, c.values[start:c.ends[i]]) {
			return
		}
		start = c.ends[i]
	}
}

func (c *headerCopy) equal(h http.Header) bool {
	if len(c.keys) != len(h) {
		return false
	}
	for k, v := range c.each {
		if now, ok := h[k]; !ok || !slices.Equal(now, v) {
			return false
		}
	}
	return true
}

func (c *headerCopy) restore(h http.Header) {
	clear(h)
	for k, v := range c.each {
		h[k] = slices.Clone(v)
	}
}

// addTrailers sets what now holds of the trailers: those that the copy
// declares, and those with [http.TrailerPrefix].
func (c *headerCopy) addTrailers(h, now http.Header) {
	declared := map[string]bool{}
	for k, values := range c.each {
		if k != "Trailer" {
			continue
		}
		for name := range strings.SplitSeq(strings.Join(values, ","), ",") {
			declared[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	for k, v := range now {
		if declared[k] || strings.HasPrefix(k, http.TrailerPrefix) {
			h[k] = v
		}
	}
}

func (c *headerCopy) reset() {
	clear(c.keys)
	clear(c.values)
	c.keys, c.ends, c.values = c.keys[:0], c.ends[:0], c.values[:0]
}
