package httpscope

import (
	"iter"
	"net/http"
	"slices"
	"strings"
)

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

// addTrailers makes the trailers what they are now: those that the copy declares,
// and those with [http.TrailerPrefix].
func (c *headerCopy) addTrailers(h, now http.Header) {
	var declared []string
	for k, values := range c.each {
		if k == "Trailer" {
			declared = values
		}
	}
	for k := range trailers(h, declared) {
		if _, still := now[k]; !still {
			delete(h, k)
		}
	}
	for k := range trailers(now, declared) {
		h[k] = now[k]
	}
}

// trailers yields the keys of those that are declared, and of those with
// [http.TrailerPrefix].
func trailers(h http.Header, declared []string) iter.Seq[string] {
	names := map[string]bool{}
	for name := range strings.SplitSeq(strings.Join(declared, ","), ",") {
		names[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
	}
	return func(yield func(string) bool) {
		for k := range h {
			if (names[k] || strings.HasPrefix(k, http.TrailerPrefix)) && !yield(k) {
				return
			}
		}
	}
}

func dropTrailers(h http.Header) {
	for k := range trailers(h, h["Trailer"]) {
		delete(h, k)
	}
}

func (c *headerCopy) reset() {
	clear(c.keys)
	clear(c.values)
	c.keys, c.ends, c.values = c.keys[:0], c.ends[:0], c.values[:0]
}
