// Package routertest has a [driver.Router] for tests of what carries tokens: a
// primary and a replica of a fake database that has replayed nothing, and tokens
// that anybody can read.
package routertest

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// Router has the hosts "primary" and "replica". A position is the number of
// commits. It is safe for concurrent use.
type Router struct {
	mu      sync.Mutex
	commits uint64
	reads   []string
}

// New returns a router and a DB on the fake with it, whose rows begin with one
// of the router's own: the fake answers its query with that.
func New(t testing.TB, fake *drivertest.Fake) (*Router, *dbscope.DB[*drivertest.Tx]) {
	t.Helper()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, fake.DB(), "ledger commits 0") })
	if err != nil {
		t.Fatal(err)
	}
	r := &Router{}
	return r, fake.DB(dbscope.Router(r))
}

// Token is one of so many commits.
func Token(commits int) string { return encode(driver.Position{Number: uint64(commits)}) }

// Unknown is a token of a commit whose outcome is unknown.
var Unknown = encode(driver.Newest)

func encode(p driver.Position) string {
	return base64.RawURLEncoding.EncodeToString((*Router).Sign(nil, p, nil))
}

// Reads returns where read-only scopes have read since the last call.
func (r *Router) Reads() (hosts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hosts, r.reads = r.reads, nil
	return hosts
}

// Use implements [driver.Router], as the other methods do.
func (r *Router) Use(func(context.Context, string) (driver.Engine, error), func(string, bool)) func() error {
	return func() error { return nil }
}

// Route sends those that know of a commit to the primary.
func (r *Router) Route(_ context.Context, need driver.RouteRequest) (driver.Route, error) {
	if !need.ReadOnly {
		return driver.Route{Host: "primary"}, nil
	}
	route := driver.Route{Host: "replica", Replica: true}
	if none := (driver.Position{}); none.Before(need.After) || none.Before(read(need.Token)) {
		route = driver.Route{Host: "primary"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads = append(r.reads, route.Host)
	return route, nil
}

// Ready is true.
func (r *Router) Ready(context.Context, driver.Conn, driver.Route) (bool, error) { return true, nil }

// Failed does nothing.
func (r *Router) Failed(string, error) {}

// Host returns the primary.
func (r *Router) Host() string { return "primary" }

// Queries returns what the fake has a row for.
func (r *Router) Queries() (before, after string) { return "SELECT 'commits'", "SELECT 'commits'" }

// Position counts the commits.
func (r *Router) Position(_, after []string) (driver.Position, bool) {
	if !slices.Equal(after, []string{"0"}) { // not committed
		return driver.Position{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commits++
	return driver.Position{Number: r.commits}, true
}

// Sign writes down the later one.
func (r *Router) Sign(p driver.Position, token []byte) []byte {
	if old := read(token); p.Before(old) {
		p = old
	}
	if p == driver.Newest {
		return []byte("commit unknown")
	}
	return fmt.Appendf(nil, "commit %d", p.Number)
}

func read(token []byte) (p driver.Position) {
	if string(token) == "commit unknown" {
		return driver.Newest
	}
	if number, ok := strings.CutPrefix(string(token), "commit "); ok {
		_, _ = fmt.Sscan(number, &p.Number)
	}
	return p
}
