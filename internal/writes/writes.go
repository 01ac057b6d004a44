// Package writes notes what the units of work under a context have committed, so
// that those who read from replicas can wait for it.
package writes

import (
	"context"
	"encoding/base64"
	"sync"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/unit"
)

// With returns a context in which writes are noted, beside what the token tells of.
// See dbscope.ReadYourWrites.
func With(ctx context.Context, token string) context.Context {
	w := &Writes{outer: Of(ctx)}
	if w.outer != nil {
		w.token = w.outer.token
	}
	if 0 < len(token) && len(token) <= maxText { // first, since decoding costs what a client likes to send
		if raw, err := base64.RawURLEncoding.DecodeString(token); err == nil && len(raw) > 0 {
			w.token = raw
		}
	}
	return context.WithValue(ctx, key{}, w)
}

// maxText bounds what is taken from a client: that many bytes in base64.
const maxText = (8*64*8 + 5) / 6

type key struct{}

// Writes are what units under a context have committed. It is safe for concurrent
// use.
type Writes struct {
	outer *Writes // of the context around it
	token []byte  // that it came with

	mu    sync.Mutex
	after map[driver.Router]driver.Position
}

// Of returns the writes of the context, or nil.
func Of(ctx context.Context) *Writes {
	w, _ := unit.Value(ctx, key{}).(*Writes)
	return w
}

// Token tells of all that was noted, in the form that clients keep. It is empty
// where nothing was.
func (w *Writes) Token() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	token := w.token
	for r, p := range w.after {
		token = r.Sign(p, token)
	}
	return base64.RawURLEncoding.EncodeToString(token)
}

// Need tells what a session that reads has to see, as far as it was noted here, and
// the token that the context came with.
func (w *Writes) Need(r driver.Router) (after driver.Position, token []byte) {
	return w.position(r), w.token
}

func (w *Writes) note(r driver.Router, p driver.Position) {
	if w.outer != nil {
		w.outer.note(r, p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.after == nil {
		w.after = map[driver.Router]driver.Position{}
	}
	if w.after[r].Before(p) {
		w.after[r] = p
	}
}

// NoteNewest notes a commit whose position is not known.
func (w *Writes) NoteNewest(r driver.Router) { w.note(r, driver.Newest) }

func (w *Writes) position(r driver.Router) driver.Position {
	if w.outer != nil {
		return w.outer.position(r) // which has all that w has
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.after[r]
}

// Commit commits, and notes how far the server has come then. was is the answer of
// the query that runs before COMMIT, where that was asked by itself.
func (w *Writes) Commit(ctx context.Context, conn driver.Conn, r driver.Router, was []string) (state driver.Outcome, err error) {
	var is []string
	before, after := r.Queries()
	if c, ok := conn.(driver.CommitQuerier); ok {
		state, was, is, err = c.CommitWithQueries(ctx, before, after)
	} else if state, err = conn.Commit(ctx); state == driver.Committed {
		is, _ = conn.FirstRow(ctx, after) // the commit stands
	}
	switch p, wrote := r.Position(was, is); {
	case state == driver.RolledBack:
	case state == driver.Unknown || is == nil:
		w.note(r, driver.Newest)
	case wrote:
		w.note(r, p)
	}
	return state, err
}
