package dbscope

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
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
	if 0 < len(token) && len(token) <= maxText { // first, since decoding costs what a client likes to send
		if raw, err := base64.RawURLEncoding.DecodeString(token); err == nil && len(raw) > 0 {
			w.token = raw
		}
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

// maxText bounds what is taken from a client: that many bytes in base64.
const maxText = (8*64*8 + 5) / 6

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
// of [session.askBefore].
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

// askBefore asks what has to be asked before COMMIT, where that cannot do it
// itself.
func (s *session) askBefore(ctx context.Context, conn driver.Conn) ([]string, error) {
	if _, ok := conn.(driver.Positioner); ok || s.writes() == nil {
		return nil, nil
	}
	before, _ := s.db.hosts.router.Queries()
	row, err := conn.Row(ctx, before)
	if err != nil {
		return nil, fmt.Errorf("dbscope: %s: %w: COMMIT was not sent: %w", s.db.name, ErrRolledBack, err)
	}
	return row, nil
}

// errBehind means that a replica has not come as far as is needed.
var errBehind = errors.New("the replica is behind")

// unreachable is the error of a host that could not be connected to.
type unreachable struct{ error }

func (e unreachable) Unwrap() error { return e.error }

// connectRouted connects to hosts that the router chooses, until one can be
// reached and is ready or the router gives up.
func (s *session) connectRouted(ctx context.Context, hosts *hosts) (driver.Conn, error) {
	// A hot standby has no serializable transactions.
	replica := s.opts.tx.ReadOnly && s.opts.tx.Isolation < sql.LevelSerializable
	need := driver.Need{ReadOnly: s.slot != nil && replica && s.sandbox == nil}
	if w := writesOf(ctx); w != nil && need.ReadOnly {
		need.After, need.Token = w.position(hosts.router), w.token
	}
	var failed error
	for {
		since := hosts.departures.Load()
		route, err := hosts.router.Route(ctx, need)
		if err != nil {
			return nil, joined(err, failed)
		}
		var conn driver.Conn
		if s.host, err = hosts.useRouted(ctx, route.Host, since); err == nil {
			if conn, err = s.connectTo(ctx, route, since); err == nil {
				return conn, nil
			}
		}
		s.leaveHost()
		switch {
		case errors.Is(err, errLeft):
		case errors.Is(err, errBehind):
			need.Behind = true
		case errors.As(err, new(unreachable)):
			hosts.router.Failed(route.Host, err)
			need.Failures, failed = need.Failures+1, err
		default:
			return nil, err
		}
	}
}

// begin begins on a host that is ready. Where that costs no round trip it asks in
// the transaction, since a pooler may lead the next one to a server that has been
// started again.
func (s *session) begin(ctx context.Context, conn driver.Conn, route driver.Route) error {
	if _, inside := conn.(driver.Positioner); !inside {
		if err := s.ready(ctx, conn, route); err != nil {
			return err
		}
		return conn.Begin(ctx, s.opts.tx)
	}
	if err := conn.Begin(ctx, s.opts.tx); err != nil {
		return err
	}
	err := s.ready(ctx, conn, route)
	if err == nil {
		return nil
	}
	ending := endContext(ctx, s.opts.endTimeout)
	defer ending.cancel()
	if undo := conn.Rollback(ending); undo != nil && errors.Is(err, errBehind) {
		return undo // and the connection is not used again
	}
	return err
}

// ready asks whether the host has come as far as the route says.
func (s *session) ready(ctx context.Context, conn driver.Conn, route driver.Route) error {
	if route.After == (driver.Position{}) {
		return nil
	}
	ready, err := s.db.hosts.router.Ready(ctx, conn, route)
	if err == nil && !ready {
		return errBehind
	}
	return err
}

// writes returns where the session's commit is to be noted, or nil.
func (s *session) writes() *writes {
	if s.db.hosts.router == nil || s.slot == nil || s.sandbox != nil || s.opts.tx.ReadOnly {
		return nil
	}
	return writesOf(s.slot.scope.ctx)
}

// blame tells the router of an error that may be its host's.
func (s *session) blame(ctx context.Context, fate driver.Fate, err error) {
	r := s.db.hosts.router
	if r == nil || s.host == nil || ctx.Err() != nil {
		return
	}
	if fate == driver.Lost || !s.opts.tx.ReadOnly && s.db.classify.WriteRefused(err) {
		r.Failed(s.host.name, err)
	}
}

// explain adds to the error of a refused write what to do about it.
func (s *session) explain(err error) error {
	switch {
	case !s.db.classify.WriteRefused(err):
		return err
	case s.opts.tx.ReadOnly:
		return fmt.Errorf("dbscope: %s: this unit was begun with the option ReadOnly and cannot write, begin it without: %w", s.db.name, err)
	case s.db.hosts.router != nil:
		return fmt.Errorf("dbscope: %s: the host %s has become a replica, run the unit again: %w", s.db.name, s.host.name, err)
	}
	return err
}
