// Package callsite is for the tests of middlewares for remote procedure calls: it
// is what the conformance suite needs of gRPC and of Connect alike, whose codes
// are the same.
package callsite

import (
	"context"
	"io"
	"strconv"
	"strings"

	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

// statuses are those of HTTP that codes of gRPC count as.
var statuses = map[int]int{3: 400, 4: 408, 5: 404, 6: 409, 13: 500, 14: 503}

// statusHeader tells of a status that is no error.
const statusHeader = "X-Status"

// Status is what a code counts as.
func Status(code int) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return 500
}

// HeaderStatus is the status of an answer with such headers.
func HeaderStatus(header func(key string) string) int {
	status, _ := strconv.Atoi(header(statusHeader)) // else 0, which no scenario wants
	return status
}

// Call is the [middlewaretest.Exchange] of a call. What is written before the
// first message goes out is one, or the text of an error.
type Call struct {
	ctx       context.Context
	in        io.Reader
	setHeader func(key, value string)
	send      func(message string) error // nil where there is one response
	status    int
	body      strings.Builder
	sent      bool
}

// New makes the exchange of a call that brings in. Where there is one response
// send is nil.
func New(ctx context.Context, in io.Reader, setHeader func(key, value string), send func(message string) error) *Call {
	return &Call{ctx: ctx, in: in, setHeader: setHeader, send: send, status: 200}
}

// Answer has the handler answer the call, and returns the one response, where it
// is not sent yet, or an error, which refuse makes of a status.
func (c *Call) Answer(handler func(middlewaretest.Exchange) error, refuse func(code int, words string) error) (string, error) {
	if err := handler(c); err != nil {
		return "", err
	}
	for code, status := range statuses {
		if status == c.status {
			return "", refuse(code, c.body.String())
		}
	}
	if c.send != nil {
		return "", c.Flush()
	}
	c.setHeader(statusHeader, strconv.Itoa(c.status))
	return c.body.String(), nil
}

// Context implements [middlewaretest.Exchange], as the other methods do.
func (c *Call) Context() context.Context { return c.ctx }

// Body has the messages of the client one after the other.
func (c *Call) Body() io.Reader { return c.in }

// SetHeader sets a header.
func (c *Call) SetHeader(key, value string) { c.setHeader(key, value) }

// Status sets the status.
func (c *Call) Status(code int) { c.status = code }

// Write sends a message, once the first one was sent.
func (c *Call) Write(body string) error {
	if c.sent {
		return c.send(body)
	}
	c.body.WriteString(body)
	return nil
}

// Flush sends the first message. An error has no part that goes ahead of it.
func (c *Call) Flush() error {
	if c.status >= 400 || c.sent {
		return nil
	}
	c.sent = true
	c.setHeader(statusHeader, strconv.Itoa(c.status))
	return c.send(c.body.String())
}
