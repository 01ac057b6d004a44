package idempotent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// ErrTooLarge is the error of a Write that would pass [MaxResponse], and of the unit's
// commit after it.
var ErrTooLarge = errors.New("idempotent: the response to a request with a key is larger than can be stored: " +
	"raise MaxResponse, or leave the route out of the middleware")

// recorder passes a response on, and keeps a copy of it. What may be written, and
// when, the outer writer knows. It is for one goroutine at a time, and is over when the
// handler has returned; but one that is kept longer changes nothing that was stored.
type recorder struct {
	http.ResponseWriter
	before http.Header // of the response, when the handler was called
	limit  int

	writing sync.Mutex // held while something is passed on, which may commit the unit

	mu sync.Mutex // guards the rest; nothing is passed on under it
	response
	sent  http.Header // at the time of WriteHeader
	whole bool        // the handler has returned
	err   error       // why the response cannot be stored
}

func newRecorder(w http.ResponseWriter, limit int) *recorder {
	return &recorder{ResponseWriter: w, before: w.Header().Clone(), limit: limit}
}

// Unwrap is for [http.ResponseController].
func (c *recorder) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Header returns the outer writer's headers.
func (c *recorder) Header() http.Header {
	if c.isWhole() {
		return http.Header{}
	}
	return c.ResponseWriter.Header()
}

func (c *recorder) isWhole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.whole
}

// WriteHeader notes the headers of now. Informational responses are not kept.
func (c *recorder) WriteHeader(status int) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.isWhole() {
		return
	}
	c.begin(status)
	c.ResponseWriter.WriteHeader(status)
}

func (c *recorder) begin(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		c.status, c.sent = status, c.ResponseWriter.Header().Clone()
	}
}

// Write passes the bytes on, unless there are too many.
func (c *recorder) Write(p []byte) (int, error) { return write(c, p, c.ResponseWriter.Write) }

// WriteString is Write for strings.
func (c *recorder) WriteString(s string) (int, error) {
	return write(c, s, func(s string) (int, error) { return io.WriteString(c.ResponseWriter, s) })
}

func write[T []byte | string](c *recorder, p T, outer func(T) (int, error)) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.room(len(p)); err != nil {
		return 0, err
	}
	c.begin(http.StatusOK)
	n, err := outer(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.body = append(c.body, p[:n]...)
	return n, err
}

var errOver = errors.New("idempotent: the handler of this ResponseWriter has returned")

// room says why no more can be written.
func (c *recorder) room(more int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.whole:
		return errOver
	case more > c.limit-len(c.body):
		c.err = ErrTooLarge
	}
	return c.err
}

// FlushError keeps the response from beginning before it can be stored.
func (c *recorder) FlushError() error { return notSupported("flushed") }

// Hijack keeps the connection the server's.
func (c *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, notSupported("hijacked")
}

func notSupported(what string) error {
	return fmt.Errorf("idempotent: the response to a request with a key is stored whole, and cannot be %s: %w", what, http.ErrNotSupported)
}

// finish ends the recording when the handler has returned.
func (c *recorder) finish() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.ResponseWriter.Header()
	if c.status == 0 {
		c.status, c.sent = http.StatusOK, now.Clone()
	}
	c.header, c.trailer = changesOf(c.before, c.sent), trailersOf(c.sent, now)
	c.whole = true
}

var errNotWhole = errors.New("idempotent: the transaction with the request's key was to be committed before the handler has returned, " +
	"so that its response cannot be stored with it: leave the commit to the end of the request, " +
	"and let httpscope's HoldLimit be as large as MaxResponse")

// recorded returns the response, or why it cannot be stored.
func (c *recorder) recorded() (*response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil, c.err
	case !c.whole:
		return nil, errNotWhole
	}
	return &c.response, nil
}
