package pgxscope

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Configure sets a pool's configuration up so that BEGIN travels with the
// first statement, whichever way pgx sends that. [Open] does it; call it for a
// pool that a function given to [New] makes, before [pgxpool.NewWithConfig].
// On connections of other pools BEGIN takes a round trip of its own. Hooks in
// the configuration stay in place.
func Configure(config *pgxpool.Config) {
	before := config.BeforeConnect
	config.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) error {
		if before != nil {
			if err := before(ctx, cc); err != nil {
				return err
			}
		}
		var made *wire // by the attempt that connects, after others have failed
		build := cc.BuildFrontend
		cc.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			made = &wire{r: r, w: w, in: bufio.NewReader(r)}
			return build(made, made)
		}
		notice := cc.OnNotice
		cc.OnNotice = func(pc *pgconn.PgConn, n *pgconn.Notice) {
			// Its text is in the server's language, the name of the function is not.
			made.unconfirmed = made.unconfirmed || n.Routine == "SyncRepWaitForLSN"
			if notice != nil {
				notice(pc, n)
			}
		}
		connected := cc.AfterConnect
		cc.AfterConnect = func(ctx context.Context, pc *pgconn.PgConn) error {
			made.opened = time.Now()
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
type wire struct {
	r  io.Reader
	w  io.Writer
	in *bufio.Reader // over r

	opened      time.Time
	unconfirmed bool // a wait for a synchronous standby was cancelled

	mu    sync.Mutex
	ahead []string // what goes in front of the next write

	// pgx writes from one goroutine and reads from another while it copies,
	// and says goodbye to a broken connection from a third.
	buf     []byte       // of the writer
	kind    bool         // of the writer: the statement's kind is still to come
	simple  atomic.Bool  // the statement is a simple query, which has no Sync
	answers atomic.Int32 // messages to take out
	through int          // of the reader: bytes of the message on its way to pgx
}

// keptBuffer is the size up to which a write's buffer is kept for the next.
const keptBuffer = 4096

// Write implements [io.Writer].
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	buf := w.buf[:0]
	for _, text := range w.ahead {
		// Encode fails only when a message is too large.
		buf, _ = (&pgproto3.Parse{Query: text}).Encode(buf)
		buf, _ = (&pgproto3.Bind{}).Encode(buf)
		buf, _ = (&pgproto3.Execute{}).Encode(buf)
	}
	if n := len(w.ahead); n > 0 {
		w.kind = true
		w.answers.Add(3 * int32(n)) //nolint:gosec // a few
		w.ahead = w.ahead[:0]
	}
	w.mu.Unlock()
	if w.kind && len(p) > 0 {
		w.simple.Store(p[0] == 'Q')
		w.kind = false
	}
	switch {
	case len(buf) > 0:
	case len(p) > 0:
		return w.w.Write(p)
	default:
		return 0, nil
	}
	sent := len(buf)
	buf = append(buf, p...)
	n, err := w.w.Write(buf)
	if cap(buf) <= keptBuffer {
		w.buf = buf
	}
	return max(0, n-sent), err
}

// Read implements [io.Reader].
func (w *wire) Read(p []byte) (int, error) {
	for w.through == 0 && w.answers.Load() > 0 {
		header, err := w.in.Peek(5)
		if err != nil {
			return 0, err
		}
		size := 1 + int(header[1])<<24 + int(header[2])<<16 + int(header[3])<<8 + int(header[4])
		switch kind := header[0]; kind {
		case '1', '2', 'C': // ParseComplete, BindComplete, CommandComplete
			if _, err := w.in.Discard(size); err != nil {
				return 0, err
			}
			w.answers.Add(-1)
		case 'E': // ErrorResponse
			if w.simple.Load() {
				if _, err := w.w.Write([]byte{'S', 0, 0, 0, 4}); err != nil {
					return 0, err
				}
			}
			w.answers.Store(0)
		case 'N', 'S', 'A': // notices, which may come at any time
			w.through = size
		default:
			return 0, fmt.Errorf("pgxscope: unexpected answer %q to a BEGIN or SAVEPOINT sent with a statement", kind)
		}
	}
	if w.through == 0 && w.in.Buffered() == 0 {
		return w.r.Read(p)
	}
	if w.through > 0 {
		p = p[:min(len(p), w.through)]
	}
	n, err := w.in.Read(p)
	w.through = max(0, w.through-n)
	return n, err
}

// quiet reports whether no answer is missing.
func (w *wire) quiet() bool { return w.answers.Load() == 0 }

// add puts a statement in front of the next write.
func (w *wire) add(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead = append(w.ahead, text)
}

// waits reports whether the statement was added and is still unsent.
func (w *wire) waits(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.ahead, text)
}

// drop takes back the unsent statements after the one named, and that one. It
// reports false, having taken back all, where that one was sent.
func (w *wire) drop(from string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.ahead, from)
	w.ahead = w.ahead[:max(0, i)]
	return i >= 0
}

// take takes back all that is unsent.
func (w *wire) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := strings.Join(w.ahead, "; ")
	w.ahead = w.ahead[:0]
	return texts
}
