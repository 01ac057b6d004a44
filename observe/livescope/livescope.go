// Package livescope shows units of work on a page. It has
//
//   - the units that are under way, with their age, what they do, and where in the code
//     their transaction was opened,
//
//   - the slowest, the failed and the suspicious ones of the last minutes,
//
//   - a timeline of each of them: waits, statements, the commit, and the time that the
//     application took for something else while the transaction was open,
//
//   - the hosts of a cluster.
//
//     live := livescope.New()
//     shop := pgxscope.Open(dsn, dbscope.Observe(live))
//     http.Handle("/debug/dbscope/", live)
//
// The page is embedded, loads nothing from elsewhere, sets no cookie and has no form. It
// refuses clients that are not on the same machine, unless [Allow] says otherwise, and
// browsers that call it by a name that is not known, see [ServedAs]. It never shows
// arguments. Texts of statements and errors are shown with [StatementText] and [ErrorText]
// only.
//
// It is meant to be left on, since what it keeps is bounded. Mount it outside of
// httpscope's middleware: its stream stays open for as long as somebody looks, or until
// the server shuts down.
package livescope

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

// Page is an observer, for as many DBs and units as one likes, and the handler that shows
// what it was told. It is safe for concurrent use.
type Page struct {
	options
	follower *follow.Follower
	visitors chan struct{} // one for each stream that is open
	servers  sync.Map      // of each *http.Server the channel that is closed as it shuts down

	mu       sync.Mutex // guards the rest
	live     map[*follow.Unit]struct{}
	followed int // live units, those included that are about to be in live
	skipped  int // live units that are not followed, since there are too many
	recent   ring
	failed   ring
	suspect  ring
	slow     slowest
	rates    rates
	sessions map[host]*shares
}

// Option changes what is kept and shown, and to whom.
type Option func(*options)

type options struct {
	limits    follow.Limits
	libraries []string
	texts     bool
	errors    bool
	allow     func(*http.Request) bool
	names     []string // of hosts, beside those of this machine
	keep      time.Duration
	every     time.Duration
	clusters  []namedCluster
}

type namedCluster struct {
	name  string
	nodes func() []cluster.Node
}

// New returns a Page. It starts no goroutine and need not be closed.
func New(opts ...Option) *Page {
	p := &Page{
		options: options{limits: follow.Default, keep: 10 * time.Minute, every: time.Second, allow: isOnThisMachine},
		live:    map[*follow.Unit]struct{}{}, sessions: map[host]*shares{}, visitors: make(chan struct{}, mostVisitors),
	}
	for _, set := range opts {
		set(&p.options)
	}
	p.recent.most, p.failed.most, p.suspect.most = mostKept, mostKept, mostKept
	p.follower = follow.New(follow.Config{
		Limits: p.limits, Libraries: p.libraries, Steps: mostSteps, Texts: p.texts, Keep: p.kept,
		Begun: p.begun, Found: p.found, Over: p.over, Transaction: p.transaction,
	})
	return p
}

// What is kept at most: units of each kind, live ones, and steps of each.
const (
	mostKept     = 50
	mostFollowed = 1000
	mostSteps    = 64
)

// Allow decides who may see the page. The default is clients on the same machine that do
// not come through a proxy, since behind that anybody may be. There is no password: where
// the function answers true nobody else is asked, and so it looks for one, or for a
// network, itself. The name in the Host header is checked all the same, see [ServedAs].
func Allow(may func(*http.Request) bool) Option { return func(o *options) { o.allow = may } }

// ServedAs adds to the names, without ports, by which browsers may call the host of the
// page. The default is localhost, what ends with .localhost, and any address: a page of
// another site could come by any other name that its owner makes lead here, in the
// browser of somebody who may see this one.
func ServedAs(names ...string) Option {
	return func(o *options) { o.names = append(o.names, names...) }
}

// StatementText shows the texts of statements, up to 500 bytes of each. Arguments are never
// shown, but values that the application has put into the text are. The default is their
// first words.
func StatementText() Option { return func(o *options) { o.texts = true } }

// ErrorText shows the texts of errors, in which databases repeat values. The default is
// the SQLSTATE, or the kind of error.
func ErrorText() Option { return func(o *options) { o.errors = true } }

// Keep is for how long units are kept that are over: 50 of each kind at most. The default,
// also for 0 and less, is ten minutes.
func Keep(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.keep = d
		}
	}
}

// Every is the time between two looks at what goes on, for those who look. The default,
// also for 0 and less, is a second.
func Every(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.every = d
		}
	}
}

// Idle is how long nothing may be done in an open transaction before that is suspicious.
// The default is half a second; with 0 and less it never is.
func Idle(d time.Duration) Option { return func(o *options) { o.limits.Idle = max(d, 0) } }

// NotEnded is how long a transaction may be idle before it counts as one that nobody
// ends. The default is a minute; with 0 and less none does.
func NotEnded(d time.Duration) Option { return func(o *options) { o.limits.NotEnded = max(d, 0) } }

// SlowWait is how long a unit may wait for a connection. The default is a second; with 0
// and less it may wait for ever.
func SlowWait(d time.Duration) Option { return func(o *options) { o.limits.Wait = max(d, 0) } }

// Repetitions is how often one unit may run the same query. The default is 25; with 0 and
// less as often as it likes.
func Repetitions(n int) Option { return func(o *options) { o.limits.Repetitions = max(n, 0) } }

// Savepoints is how many of a transaction may be live. The default is 64; with 0 and less
// as many as it likes.
func Savepoints(n int) Option { return func(o *options) { o.limits.Savepoints = max(n, 0) } }

// Libraries are the beginnings of import paths whose lines are not taken for the place in
// the code where something happens. Those of the usual ORMs and drivers are known.
func Libraries(prefixes ...string) Option {
	return func(o *options) { o.libraries = append(o.libraries, prefixes...) }
}

// Hosts shows the hosts of a cluster, under the name, with their roles and lags. Several
// may be given.
func Hosts(name string, c *cluster.Cluster) Option {
	return func(o *options) { o.clusters = append(o.clusters, namedCluster{name, c.Nodes}) }
}

// Start implements [observe.Observer].
func (p *Page) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	if e.Kind == observe.Unit && !p.follows() {
		return ctx, skipped{p}
	}
	return p.follower.Start(ctx, e)
}
