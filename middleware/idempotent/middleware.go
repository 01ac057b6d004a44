// Package idempotent does requests exactly once. A client that got no answer sends
// its request again, with the same key, and gets the answer that it has missed: its
// order is stored once, however often it asks.
//
//	keyed := idempotent.Middleware(shop, userOf)
//	http.ListenAndServe(addr, httpscope.Middleware()(keyed(mux)))
//
// The key, in the header Idempotency-Key as in the IETF's draft of that name, is
// stored in the request's own transaction before the handler runs, and the
// response in the same transaction before it is committed. So key, response and work
// are stored together or not at all, and where the answer to COMMIT is lost, the next
// attempt finds out what became of it. The database needs a table: [PostgreSQLTable],
// [MySQLTable], [SQLiteTable]; [Purge] deletes old keys.
//
// The middleware stands inside httpscope's, which holds the response until the commit,
// or inside any other that begins a unit of work and holds the response. What stands
// outside it, such as cookies of a session, is not part of the response that is stored.
//
// A request with a key gets
//
//   - the handler's response, the first time, and as long as no response was stored:
//     of 400 and above nothing is, since their work is rolled back;
//   - the stored response after that, with the header [ReplayedHeader] and otherwise
//     as the handler wrote it, byte by byte;
//   - 409 with Retry-After where the first attempt still runs, see [Wait];
//   - 422 where the key came with another request: another method, target, body, or
//     header of [Headers];
//   - 400 where the key is malformed, is longer than 255 characters, or missing though it
//     is [Required]; 403 where the request has no [Principal]; 413 where its body
//     passes [MaxRequest].
//
// These answers are problem details (RFC 9457). Requests without a key go on as they
// are, and so do those with a safe method (GET, HEAD, OPTIONS, TRACE) and those whose
// unit is read-only.
//
// # What a handler has to know
//
// Its body was read before it is called. Its response is bounded, see [MaxResponse],
// and cannot begin before it returns: Flush of [http.ResponseController] and Hijack
// return an error that is [http.ErrNotSupported], and its writer is no [http.Flusher].
//
// The key protects what is committed with it: the work of the unit in the database
// that the key is stored in. A unit of its own, such as a [dbscope.Run] in the handler,
// is done again with the next attempt, and so is what the handler does elsewhere; in
// another database the work may be missing, or be done twice, where one of the two
// COMMITs fails. An early commit of that database, as by its method Commit, is an error,
// since the response is not known yet; the transaction is then rolled back. After an early rollback the
// key is stored anew at the end, with the response; what the handler commits early after
// that is not protected.
//
// docs/idempotency.md has the rest.
package idempotent

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/dbscope/dbscope/middleware"
)

// ReplayedHeader is in the responses that were stored by an earlier request.
const ReplayedHeader = "Idempotency-Replayed"

// Principal returns whose request it is: a key means something for one principal
// only, so that nobody sees the response to somebody else. It reports false for a
// request of nobody, which is answered with 403 where it has a key. It must be safe
// for concurrent use, and is called in the request's unit.
type Principal func(r *http.Request) (name string, known bool)

// Anybody is the [Principal] of services whose clients are all the same: whoever knows
// a key sees its response.
func Anybody(*http.Request) (string, bool) { return "", true }

// Middleware returns a middleware that stores keys and responses in a database. It is
// safe for concurrent use and may wrap several handlers. It panics without a
// principal.
func Middleware[O any](db Database[O], of Principal, opts ...Option) func(http.Handler) http.Handler {
	t := targetOf(db)
	return newGuard(func(*http.Request) *target { return t }, of, opts).wrap
}

// Chosen is [Middleware] with a database for each request, such as the shard that
// its work is done in. A key is looked for in the database of its request alone.
func Chosen[D Database[O], O any](choose func(r *http.Request) D, of Principal, opts ...Option) func(http.Handler) http.Handler {
	var targets sync.Map // of D to *target
	return newGuard(func(r *http.Request) *target {
		db := choose(r)
		if t, known := targets.Load(db); known {
			return t.(*target)
		}
		t, _ := targets.LoadOrStore(db, targetOf(Database[O](db)))
		return t.(*target)
	}, of, opts).wrap
}

// guard is what a middleware knows.
type guard struct {
	options
	target    func(*http.Request) *target
	principal Principal
}

func newGuard(target func(*http.Request) *target, of Principal, opts []Option) *guard {
	if of == nil {
		panic("idempotent: a nil Principal: pass a function that returns whose request it is, or idempotent.Anybody")
	}
	return &guard{newOptions(opts), target, of}
}

func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, next) })
}

func (g *guard) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	scope, scoped := middleware.ScopeOf(r.Context())
	if isSafe(r.Method) || scoped && scope.ReadOnly() {
		next.ServeHTTP(w, r)
		return
	}
	key, err := parseKey(r.Header.Values(g.header))
	if errors.Is(err, errNoKey) && !g.required {
		next.ServeHTTP(w, r)
		return
	}
	if err != nil {
		g.refuse(w, r, badKey(g.header, err))
		return
	}
	if !scoped {
		g.fail(w, r, errNoUnit)
		return
	}
	of, known := g.principal(r)
	if !known {
		g.refuse(w, r, noPrincipal)
		return
	}
	read, refused := g.read(w, r)
	if refused != nil {
		g.refuse(w, r, *refused)
		return
	}
	defer read.giveBack(r)
	c := &claim{guard: g, target: g.target(r), scope: scope, r: r, id: idOf(of, key), request: read.hash}
	g.answer(w, r, c, next)
}

// answer serves a request that has all it needs.
func (g *guard) answer(w http.ResponseWriter, r *http.Request, c *claim, next http.Handler) {
	found, err := c.take(r.Context())
	switch {
	case errors.Is(err, errInUse):
		g.refuse(w, r, inUse)
	case err != nil:
		g.fail(w, r, err)
	case found == nil:
		if err := c.hold(r.Context(), w); err != nil {
			g.fail(w, r, err)
			return
		}
		next.ServeHTTP(c.recorder, r)
		c.release(r.Context())
	case !found.answers(c.request):
		g.refuse(w, r, keyReused(g.header))
	default:
		if err := found.play(w); err != nil {
			g.fail(w, r, err)
		}
	}
}

var errNoUnit = errors.New("idempotent: the request has no unit of work that its key could be stored in: " +
	"place the middleware inside httpscope's")

// fail answers a request whose key could not be looked for. Nothing was done.
func (g *guard) fail(w http.ResponseWriter, r *http.Request, err error) {
	if !errors.Is(err, context.Canceled) || r.Context().Err() == nil { // else nobody waits for the answer
		g.onError(r, err)
	}
	g.refuse(w, r, failed)
}

// isSafe reports whether a method is safe to be repeated, see RFC 9110, section 9.2.1.
func isSafe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
