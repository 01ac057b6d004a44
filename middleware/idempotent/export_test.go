package idempotent

import "net/http"

// ParseKey, Changes and Stored are for tests that need no database.
var ParseKey = parseKey

// QuoteKey is what [Transport] sends.
var QuoteKey = quote

// Changed returns a header after the changes that a handler has made to before, which
// are stored and then made to outer.
func Changed(before, now, outer http.Header) (http.Header, error) {
	was := response{status: 200, header: changesOf(before, now)}
	read, err := decode(was.encode())
	if err != nil {
		return nil, err
	}
	apply(read.header, outer)
	return outer, nil
}

// Play writes a stored response.
func Play(text []byte, w http.ResponseWriter) error {
	return (&stored{response: text}).play(w)
}

// Again is what is stored for a stored response that was read.
func Again(text []byte) ([]byte, error) {
	was, err := decode(text)
	if err != nil {
		return nil, err
	}
	return was.encode(), nil
}
