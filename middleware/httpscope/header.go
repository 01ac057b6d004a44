package httpscope

import (
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
