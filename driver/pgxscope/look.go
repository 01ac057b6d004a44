package pgxscope

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Look implements [driver.Looker]: it returns the error with which the server has ended the session while
// nothing was asked of it, and nil where it has not, or where nobody can see
// that. It costs no round trip and does not wait. Notifications, notices and
// changed parameters that have arrived go to pgx on the way.
func (c *conn) Look() error {
	switch {
	case c.IsClosed():
		return errors.New("the connection is closed")
	case c.wire.socket == nil:
		return nil
	}
	for {
		arrived, err := c.messageArrived()
		switch {
		case err != nil:
			c.abandon()
			return fmt.Errorf("the server has closed the connection: %w", err)
		case !arrived:
			return nil
		}
		taken, err := c.takeArrived()
		if !taken && err == nil {
			err = c.receive()
		}
		if err != nil {
			c.abandon()
			return err
		}
	}
}

// receive gives pgx a message that has arrived.
func (c *conn) receive() error {
	message, err := c.PgConn().ReceiveMessage(context.Background())
	if refused, ok := message.(*pgproto3.ErrorResponse); ok {
		err = pgconn.ErrorResponseToPgError(refused)
	}
	return serverError(err)
}

// serverError returns the server's own error where err has one.
func serverError(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused
	}
	return err
}

// messageArrived reports whether pgx can read a whole message without waiting.
func (c *conn) messageArrived() (bool, error) {
	if c.PgConn().Frontend().ReadBufferLen() > c.wire.place.done {
		return true, nil // it has more than a part of one
	}
	return c.wire.messageArrived()
}

// takeArrived takes out a message that has arrived, where it is the answer to an end
// which nobody waits for.
func (c *conn) takeArrived() (taken bool, err error) {
	w := c.wire
	next, waiting := w.head()
	if !waiting || next.do != takeEnd || !w.place.isBoundary() || c.PgConn().Frontend().ReadBufferLen() > 0 {
		return false, nil
	}
	passes, err := w.takeNext(next)
	if err != nil || passes > 0 {
		return false, err
	}
	return true, w.finishSkipping()
}

// messageArrived reports whether the rest of a message is there. It reads what
// the socket has.
func (w *wire) messageArrived() (bool, error) {
	for {
		have := w.in.Buffered()
		switch {
		case have >= w.missingWhole():
			return true, nil
		case have == w.in.Size() || !w.socket.readable():
			return false, nil
		}
		if err := w.readMore(have + 1); err != nil {
			return false, err
		}
	}
}

// missingWhole returns how many bytes must be in the buffer before the message
// on its way is whole, or before that can be said.
func (w *wire) missingWhole() int {
	m := w.place
	if m.left > 0 {
		return m.left
	}
	rest := headerSize - m.known
	if w.in.Buffered() < rest {
		return rest
	}
	next, _ := w.in.Peek(rest)
	copy(m.header[m.known:], next)
	return rest + messageSize(m.header[:]) - headerSize
}

// readMore reads until so many bytes are in the buffer. They may not come: what
// has arrived can be a part of a TLS record.
func (w *wire) readMore(bytes int) error {
	_ = w.socket.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := w.in.Peek(bytes)
	_ = w.socket.conn.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// socket is what [conn.Look] looks at.
type socket struct {
	conn net.Conn // as pgx reads it, perhaps with TLS
	poller
}

// newSocket returns nil where the connection cannot be looked at.
func newSocket(c net.Conn) *socket {
	network := c
	if secured, ok := network.(interface{ NetConn() net.Conn }); ok {
		network = secured.NetConn()
	}
	p, ok := newPoller(network)
	if !ok {
		return nil
	}
	return &socket{conn: c, poller: p}
}
