package idempotent

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// change is what a handler has done to one header of its response. What stood there
// before is not the handler's: it may be a cookie of a middleware outside, which is
// another one each time.
type change struct {
	key    string
	how    how
	values []string // none at all is a header too: net/http then makes none of its own
}

// how a change is made.
type how uint8

const (
	set    how = iota // the values take the place of those from before
	extend            // they come after these
	remove            // there is no such header any more
)

// changesOf returns what makes one header of another, by their keys.
func changesOf(before, now http.Header) (all []change) {
	for _, key := range slices.Sorted(maps.Keys(now)) {
		values := now[key]
		was, known := before[key]
		switch {
		case known && slices.Equal(values, was):
		case (known || key == "Set-Cookie") && len(values) > len(was) && slices.Equal(values[:len(was)], was):
			all = append(all, change{key, extend, values[len(was):]})
		default:
			all = append(all, change{key, set, values})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[key]; !still {
			all = append(all, change{key: key, how: remove})
		}
	}
	return all
}

// apply does the same to a header.
func apply(all []change, h http.Header) {
	for _, c := range all {
		switch c.how {
		case set:
			h[c.key] = slices.Clone(c.values)
		case extend:
			h[c.key] = slices.Concat(h[c.key], c.values)
		case remove:
			delete(h, c.key)
		}
	}
}

// trailersOf returns what is sent after the body: of the headers at its end those
// that were declared, and those with [http.TrailerPrefix].
func trailersOf(sent, now http.Header) (all []change) {
	declared := map[string]bool{}
	for name := range strings.SplitSeq(strings.Join(sent["Trailer"], ","), ",") {
		declared[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if declared[key] || strings.HasPrefix(key, http.TrailerPrefix) {
			all = append(all, change{key, set, now[key]})
		}
	}
	return all
}
