package pgxscope

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// Configure sets a pool's configuration up so that BEGIN travels with the
// first statement, whichever way pgx sends that. [Open] does it; call it for a
// pool that a function given to [New] makes, before [pgxpool.NewWithConfig].
// On connections of other pools BEGIN takes a round trip of its own, and nobody
// looks before COMMIT whether the server has already ended the session. Hooks
// in the configuration stay in place.
func Configure(config *pgxpool.Config) {
	before := config.BeforeConnect
	config.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) error {
		if before != nil {
			if err := before(ctx, cc); err != nil {
				return err
			}
		}
		var made *wire // by the attempt that connects, after others have failed
		traced := cc.Tracer != nil
		build := cc.BuildFrontend
		cc.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			made = &wire{traced: traced, w: w, in: bufio.NewReaderSize(r, inputBuffer)}
			return build(made, made)
		}
		notice := cc.OnNotice
		cc.OnNotice = func(pc *pgconn.PgConn, n *pgconn.Notice) {
			// Its text is in the server's language, the name of the function is not.
			made.unconfirmed = made.unconfirmed || n.Routine == "SyncRepWaitForLSN"
			made.behind.nested = made.behind.nested || n.Code == activeTransaction
			if notice != nil {
				notice(pc, n)
			}
		}
		connected := cc.AfterConnect
		cc.AfterConnect = func(ctx context.Context, pc *pgconn.PgConn) error {
			made.opened = time.Now()
			made.socket = newSocket(pc.Conn())
			pc.CustomData()[wireKey] = made
			if connected != nil {
				return connected(ctx, pc)
			}
			return nil
		}
		return nil
	}
}

const wireKey = "github.com/dbscope/dbscope/driver/pgxscope"

// wire is between pgx and the bytes of one connection. It writes BEGIN and
// SAVEPOINT in front of what pgx writes next, and takes the answers to them
// out of what pgx reads. They have no Sync of their own: when one of them
// fails, the server passes over all that follows up to the statement's, and
// pgx takes the error for the statement's own. So nothing can run outside the
// transaction, and one that fails, even while it is parsed, fails inside.
//
// What the server sends is followed message by message at all times, since it
// may send notifications, notices and changed parameters at any moment, and pgx
// reads whatever part of a message has arrived.
type wire struct {
	w      io.Writer
	in     *bufio.Reader
	socket *socket // to look at, nil where the connection has none

	raw         *stdlib.Conn // the connection as database/sql's driver sees it, once it has been taken
	opened      time.Time
	traced      bool   // somebody traces what pgx runs
	isolation   string // the default level of its transactions, "" until that is known
	unconfirmed bool   // a wait for a synchronous standby was cancelled

	// Of who reads: pgx, or [conn.Look] while pgx does nothing.
	place place // how far the message on its way to pgx has come
	skip  int   // bytes of a message that is being taken out

	behind behind

	// pgx writes from one goroutine and reads from another while it copies,
	// and says goodbye to a broken connection from a third.
	mu       sync.Mutex
	ahead    []ahead    // statements that go in front of the next write
	buf      []byte     // for them
	open     bool       // they were sent, and the kind of their statement is not known yet
	simple   bool       // their statement is a simple query, which has no Sync
	expected []expected // what the server sends next, before what pgx waits for
	pretend  bool       // a BEGIN of pgx's is answered and not sent
	follower []byte     // goes behind the next write that executes a statement
	sent     []byte     // has done so: pgx's own write of it is left out
	followed following
	failure  error // of the protocol: the connection cannot be used any more
}

const (
	// inputBuffer holds any notification, whose payload is under 8000 bytes.
	inputBuffer = 8192
	// keptBuffer is the size up to which a write's buffer is kept for the next.
	keptBuffer = 4096
)

// Write implements [io.Writer].
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	if w.pretend && bytes.Equal(p, beginQuery) {
		w.expected = append(w.expected, expected{do: makeUp, bytes: begunAnswer})
		w.mu.Unlock()
		return len(p), nil
	}
	if w.hasLeft(p) {
		w.mu.Unlock()
		return len(p), nil
	}
	buf := w.encodeAhead()
	if w.open && len(p) > 0 {
		w.open, w.simple = false, p[0] == 'Q'
	}
	behind := w.behindWrite(p)
	w.mu.Unlock()
	switch {
	case len(buf) > 0 || len(behind) > 0:
	case len(p) > 0:
		return w.w.Write(p)
	default:
		return 0, nil
	}
	sent := len(buf)
	buf = append(append(buf, p...), behind...)
	n, err := w.w.Write(buf)
	if cap(buf) <= keptBuffer {
		w.buf = buf
	}
	return min(len(p), max(0, n-sent)), err
}

// encodeAhead returns the messages of what goes ahead, whose answers are
// expected from now on. The caller holds mu.
func (w *wire) encodeAhead() []byte {
	if len(w.ahead) == 0 {
		return nil
	}
	buf := w.buf[:0]
	for _, s := range w.ahead {
		buf = s.encode(buf)
		w.expected = append(w.expected, expected{do: takeOut, kinds: s.answers(), shows: s.text == showIsolation})
	}
	w.ahead = w.ahead[:0]
	w.open, w.simple = true, false
	return buf
}

// sync asks the server for the end of what went ahead, where pgx sent nothing
// after it.
func (w *wire) sync() error {
	_, err := w.w.Write(syncMessage)
	return err
}

var syncMessage = []byte{'S', 0, 0, 0, 4}

// Read implements [io.Reader].
func (w *wire) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.failed(); err != nil && w.place.isBoundary() {
		return 0, err
	}
	for {
		if err := w.finishSkipping(); err != nil {
			return 0, err
		}
		if !w.place.isBoundary() {
			return w.pass(p[:min(len(p), w.place.missing())])
		}
		next, waiting := w.head()
		switch {
		case !waiting:
			return w.pass(p)
		case next.do == makeUp:
			return w.giveMadeUp(p), nil
		}
		size, err := w.takeNext(next)
		if err != nil {
			return 0, err
		}
		if size > 0 {
			return w.pass(p[:min(len(p), size)])
		}
	}
}

// takeNext waits for the beginning of the next message while answers to be taken out
// are expected. It begins to take it out, or returns the size of one that passes on.
func (w *wire) takeNext(next expected) (passes int, err error) {
	kind, size, err := w.peekMessage()
	if err != nil {
		return 0, err
	}
	var beginning []byte
	if next.do == takeEnd || next.shows {
		if beginning, err = w.in.Peek(min(size, longestBeginning)); err != nil {
			return 0, err
		}
	}
	var what action
	if next.do == takeEnd {
		what = w.endArrived(kind, beginning)
	} else {
		what = w.arrived(kind)
	}
	if next.shows && kind == dataRow && what == takeOut {
		w.noteIsolation(beginning)
	}
	switch what {
	case passOn:
		return size, nil
	case takeOut:
		w.skip = size
		return 0, nil
	default:
		return 0, w.fail(kind)
	}
}

// longestBeginning is in how many bytes an error has told how severe it is, in the
// server's language and in English, and a row the isolation level.
const longestBeginning = 64

// pass gives pgx what has arrived, and follows it.
func (w *wire) pass(p []byte) (int, error) {
	n, err := w.in.Read(p)
	w.place.advance(p[:n], w.behind.arrived)
	return n, err
}

// peekMessage waits for the beginning of a message and returns its kind and
// whole size.
func (w *wire) peekMessage() (kind byte, size int, err error) {
	header, err := w.in.Peek(headerSize)
	if err != nil {
		return 0, 0, err
	}
	return header[0], messageSize(header), nil
}

// finishSkipping takes out what is left of a message, which a deadline may have
// interrupted.
func (w *wire) finishSkipping() error {
	if w.skip == 0 {
		return nil
	}
	n, err := w.in.Discard(w.skip)
	w.skip -= n
	return err
}

// fail notes an answer that this package does not know how to take out.
func (w *wire) fail(kind byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = fmt.Errorf("pgxscope: unexpected answer %q to a BEGIN or SAVEPOINT that was sent with a statement; "+
		"where a proxy stands before the server, open the DB with pgxscope.SeparateBegin", kind)
	return w.failure
}

// failed returns the error after which the connection cannot be used, or nil.
func (w *wire) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// quiet reports whether no answer is missing, but for that to an end which nobody
// waits for.
func (w *wire) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure == nil && w.skip == 0 && (len(w.expected) == 0 || len(w.expected) == 1 && w.expected[0].do == takeEnd)
}

// answerBegin lets a BEGIN that pgx sends be answered as if it had been sent,
// within a transaction that has begun.
func (w *wire) answerBegin(pretend bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pretend = pretend
}

var (
	beginQuery  = []byte("Q\x00\x00\x00\x0abegin\x00")
	begunAnswer = []byte("C\x00\x00\x00\x0aBEGIN\x00Z\x00\x00\x00\x05T")
)

// add puts a statement in front of the next write.
func (w *wire) add(s ahead) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead = append(w.ahead, s)
}

// waits reports whether the statement was added and is still unsent.
func (w *wire) waits(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.find(text) >= 0
}

// find returns the place of an unsent statement, or -1. The caller holds mu.
func (w *wire) find(text string) int {
	return slices.IndexFunc(w.ahead, func(s ahead) bool { return s.text == text })
}

// drop takes back the unsent statements after the one named, and that one. It
// reports false, having taken back all, where that one was sent.
func (w *wire) drop(from string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.find(from)
	w.ahead = w.ahead[:max(0, i)]
	return i >= 0
}

// take takes back all that is unsent.
func (w *wire) take() { w.takeFrom(0) }

// takeFrom takes back what is unsent, but for so many statements.
func (w *wire) takeFrom(n int) []ahead {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = min(n, len(w.ahead))
	taken := slices.Clone(w.ahead[n:])
	w.ahead = w.ahead[:n]
	return taken
}

// waiting returns how many statements are unsent.
func (w *wire) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ahead)
}
