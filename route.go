package dbscope

import (
	"context"
	"encoding/base64"
	"sync"

	"github.com/dbscope/dbscope/driver"
)

// ReadYourWrites returns a context under which scopes with [ReadOnly] see what
// scopes under it have committed before, and what the token tells of, which is
// one of [WritesToken] or empty: on a DB with the option [Hosts] they get a
// replica only if it has come that far. A token that is not valid, or not any
// more, is ignored. Under such a context another one is a part of it, and where
// it comes with no token of its own keeps the outer one's. Middlewares do it for
// each request; a job does it with the token that came with it.
func ReadYourWrites(ctx context.Context, token string) context.Context {
	w := &writes{outer: writesOf(ctx)}
	if w.outer != nil {
		w.token = w.outer.token
	}
	if raw, err := base64.RawURLEncoding.DecodeString(token); err == nil && 0 < len(raw) && len(raw) <= maxToken {
		w.token = raw
	}
	return context.WithValue(ctx, writesKey{}, w)
}

// WritesToken returns a token of what has been committed under a context of
// [ReadYourWrites] so far, the token given to that included: for the client's
// next request, or for a job. It is empty where nothing was. It does not block
// and is safe for concurrent use.
func WritesToken(ctx context.Context) string {
	w := writesOf(ctx)
	if w == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	token := w.token
	for r, p := range w.after {
		token = r.Sign(p, token)
	}
	return base64.RawURLEncoding.EncodeToString(token)
}

// maxToken bounds what is taken from a client.
const maxToken = 8 * 64

type writesKey struct{}

// writes is what scopes under a context have committed.
type writes struct {
	outer *writes // of the context around it
	token []byte  // that it came with

	mu    sync.Mutex
	after map[driver.Router]driver.Position
}

func writesOf(ctx context.Context) *writes {
	w, _ := ctx.Value(writesKey{}).(*writes)
	return w
}

func (w *writes) note(r driver.Router, p driver.Position) {
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

func (w *writes) position(r driver.Router) driver.Position {
	if w.outer != nil {
		return w.outer.position(r) // which has all that w has
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.after[r]
}

// commit commits, and notes how far the server has come then. was is the answer
// of the query that runs before COMMIT, where that was asked by itself.
func (w *writes) commit(ctx context.Context, conn driver.Conn, r driver.Router, was []string) (state driver.Outcome, err error) {
	var is []string
	before, after := r.Queries()
	if c, ok := conn.(driver.Positioner); ok {
		state, was, is, err = c.CommitRows(ctx, before, after)
	} else if state, err = conn.Commit(ctx); state == driver.Committed {
		is, _ = conn.Row(ctx, after) // the commit stands
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
