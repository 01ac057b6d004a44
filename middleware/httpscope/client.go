package httpscope

import (
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/dbscope/dbscope/middleware"
)

// clientBody is the body of a request, for which the handler may have to wait.
type clientBody struct {
	io.ReadCloser
	wait *middleware.ClientWait
}

func (b *clientBody) Read(p []byte) (n int, err error) {
	if err := b.wait.Enter(false); err != nil {
		return 0, err
	}
	defer leave(b.wait, false, &err)
	return b.ReadCloser.Read(p)
}

// Close is waited for too: the server reads some of what is left.
func (b *clientBody) Close() (err error) {
	if b.wait.Enter(false) != nil {
		return b.ReadCloser.Close()
	}
	defer leave(b.wait, false, &err)
	return b.ReadCloser.Close()
}

func leave(wait *middleware.ClientWait, sending bool, err *error) {
	if late := wait.Leave(sending); late != nil {
		*err = late
	}
}

// watchBody gives the handler the body in one that knows of the wait.
func (w *writer) watchBody() {
	r := w.request
	if r.Body == nil || r.Body == http.NoBody || w.inner.reading.inMemory() {
		return
	}
	w.body = clientBody{r.Body, &w.wait}
	r.Body = likeBefore(r.Body, &w.body)
	w.inner.body = r.Body
}

// send calls what writes to the client.
func (w *writer) send(write func() error) error { return w.wait.Call(true, write) }

// clientSide implements [middleware.ClientSide].
type clientSide struct{ w *writer }

// Fail makes the failure page what the client gets, if the response is still held.
func (c clientSide) Fail(err error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.phase == holding {
		c.w.phase, c.w.err = failed, err
	}
}

var past = time.Unix(1, 0)

// Wake lets reads and writes fail. The server may read what is left of the body
// before it writes. A response that has begun is cut off, and never looks complete.
func (c clientSide) Wake(receiving, sending bool) {
	control := http.NewResponseController(c.w.outer)
	_ = control.SetReadDeadline(past)
	if begun := c.w.now() == passing; begun || sending {
		c.w.cut = control.SetWriteDeadline(past) == nil
	}
}

func (c clientSide) Report(err error) { c.w.tell(err) }

// pausing is the source of a copy to the client.
type pausing struct {
	src  io.Reader
	wait *middleware.ClientWait
}

func (p pausing) Read(b []byte) (n int, err error) {
	p.wait.Pause(true, func() { n, err = p.src.Read(b) })
	return n, err
}

// isFile reports whether the outer writer may know how to send what is read
// without copying it.
func isFile(src io.Reader) bool {
	if part, ok := src.(*io.LimitedReader); ok {
		src = part.R
	}
	_, ok := src.(syscall.Conn)
	return ok
}
