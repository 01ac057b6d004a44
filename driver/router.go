package driver

import (
	"context"
	"time"
)

// Router chooses the host of each session. The package cluster has one; see
// dbscope.Router. It must be safe for concurrent use.
type Router interface {
	// Use is called for each DB that is made with the router. open opens a pool
	// of a host, for connections of the router's own. left tells that Route does
	// not return a host any more, or not for what it did before: sessions that
	// wait for a connection of the host are routed anew. With gone it is a member
	// no more, and its pool is closed. left does not block. stop is called once,
	// when the DB is closed. Use must not block.
	Use(open func(ctx context.Context, host string) (Engine, error), left func(host string, gone bool)) (stop func() error)
	// Route returns the host for a session that is about to be opened. It may
	// block for a limited time, or until ctx is done, while there is none.
	Route(ctx context.Context, need RouteRequest) (Route, error)
	// Ready reports whether the host can serve the session for which Route
	// returned it. It is asked on the connection, before BEGIN, and may block
	// for a limited time. A [CommitQuerier] has begun by then, and its transaction
	// must be a new one when Ready returns. Where the host cannot serve the
	// session, Route is called again.
	Ready(ctx context.Context, conn Conn, r Route) (bool, error)
	// Failed tells that a connection to the host could not be made, was lost, or
	// belonged to a server that refuses to write. It must not block.
	Failed(host string, err error)
	// Host returns the host of sessions that write, or "" while there is none.
	Host() string
	// Queries returns two queries of one row each, that run before COMMIT and
	// after it, and Position reads these rows: a position that the host has
	// reached when what was committed can be read there. ok is false where
	// nothing was written.
	Queries() (before, after string)
	Position(before, after []string) (p Position, ok bool)
	// Sign returns the token with the position put into it, which is a token of
	// nothing at first.
	Sign(p Position, token []byte) []byte
}

// RouteRequest is what a session needs of its host.
type RouteRequest struct {
	ReadOnly bool     // a replica will do
	Behind   bool     // Ready has said no
	Failures int      // hosts that Route returned and that could not be reached
	After    Position // that has to be reached
	Token    []byte   // as Sign made them, perhaps in another process; or anything
}

// Route is a host for a session.
type Route struct {
	Host    string
	Replica bool
	After   Position // that Ready asks about; zero where it need not be asked
}

// Position is how far a server's log has come. The zero value is the beginning.
type Position struct {
	Timeline uint32
	Number   uint64
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Timeline < q.Timeline || p.Timeline == q.Timeline && p.Number < q.Number
}

// Newest is the position after all others. Only the host that writes has
// reached it.
var Newest = Position{1<<32 - 1, 1<<64 - 1}

// CommitQuerier is a [Conn] that can do CommitWithQueries in one round trip. Its Begin
// travels with the next statement, and its FirstRow takes several statements at once,
// of which the first returns the row.
type CommitQuerier interface {
	// CommitWithQueries commits as Commit does and runs a query before and another
	// after it, whose first rows it returns. after is nil where it failed though
	// the commit did not.
	CommitWithQueries(ctx context.Context, before, after string) (o Outcome, rowBefore, rowAfter []string, err error)
}

// BackendIdentifier is a [Conn] that knows since when its connection is open, and which
// process of the server it was told to be with then: a pooler tells a number of
// its own.
type BackendIdentifier interface {
	Backend() (since time.Time, process uint32)
}
