package idempotent

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
)

// maxKey is how many characters a key has at most.
const maxKey = 255

var errNoKey = errors.New("the request has none")

// parseKey reads the key: a string of structured fields (RFC 9651), as the draft
// asks for, or the same without quotes, as many clients send it.
func parseKey(values []string) (key string, err error) {
	if len(values) == 0 {
		return "", errNoKey
	}
	if len(values) > 1 {
		return "", errors.New("there is more than one")
	}
	text := strings.Trim(values[0], " \t")
	if strings.HasPrefix(text, `"`) {
		key, err = unquote(text)
	} else {
		key, err = bare(text)
	}
	switch {
	case err != nil:
		return "", err
	case key == "":
		return "", errors.New("it is empty")
	case len(key) > maxKey:
		return "", fmt.Errorf("it has more than %d characters", maxKey)
	}
	return key, nil
}

var errUnclear = errors.New("it is no string of visible ASCII characters")

func bare(text string) (string, error) {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' || strings.IndexByte(`",;\`, c) >= 0 {
			return "", errUnclear
		}
	}
	return text, nil
}

func unquote(text string) (string, error) {
	var key []byte
	for i := 1; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"' && i == len(text)-1:
			return string(key), nil
		case c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
			i++
			c = text[i]
		case c < ' ' || c > '~' || c == '"' || c == '\\':
			return "", errUnclear
		}
		key = append(key, c)
	}
	return "", errUnclear
}

// quote is the key as the draft asks for it.
func quote(key string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
}

// idOf is what is stored for a key. Its length is always the same, and it tells
// nothing of the principal.
func idOf(principal, key string) []byte {
	h := sha256.New()
	add(h, principal)
	add(h, key)
	return h.Sum(nil)
}

// add adds a text and its length, so that no two lists of texts are the same.
func add(h hash.Hash, text string) {
	h.Write(binary.AppendUvarint(nil, uint64(len(text))))
	_, _ = io.WriteString(h, text)
}

// body is the body of a request, which was read.
type body struct {
	io.Reader
	before io.ReadCloser
	hash   []byte // of the request
}

// read reads the request's body, and gives the request one with the same content.
func (g *guard) read(w http.ResponseWriter, r *http.Request) (*body, *Problem) {
	b := &body{before: r.Body}
	var content []byte
	if r.Body != nil && r.Body != http.NoBody {
		if r.ContentLength > g.maxRequest {
			return nil, &tooLarge
		}
		var err error
		content, err = io.ReadAll(http.MaxBytesReader(w, r.Body, g.maxRequest))
		switch {
		case errors.As(err, new(*http.MaxBytesError)):
			return nil, &tooLarge
		case err != nil:
			return nil, &unreadable
		}
		b.Reader = bytes.NewReader(content)
		r.Body = b
	}
	b.hash = g.hash(r, content)
	return b, nil
}

// Close implements [io.Closer].
func (b *body) Close() error { return b.before.Close() }

// giveBack gives the request its own body back, unless the handler has replaced it.
func (b *body) giveBack(r *http.Request) {
	if r.Body == b {
		r.Body = b.before
	}
}

// hash is the same for requests that may have the same key.
func (g *guard) hash(r *http.Request, content []byte) []byte {
	target := r.RequestURI
	if target == "" { // of a request that no server has read
		target = r.URL.RequestURI()
	}
	h := sha256.New()
	add(h, r.Method)
	add(h, target)
	for _, name := range g.headers {
		values := r.Header.Values(name)
		add(h, fmt.Sprint(name, len(values)))
		for _, value := range values {
			add(h, value)
		}
	}
	h.Write(content)
	return h.Sum(nil)
}
