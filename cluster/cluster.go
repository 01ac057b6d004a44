// Package cluster finds the primary and the replicas among a set of database
// hosts, and gives each session of a DB its host. A scope with [dbscope.ReadOnly]
// gets a replica that is fresh enough, and everything else the primary.
//
//	var nodes = cluster.New(cluster.List("10.0.0.1", "10.0.0.2", "10.0.0.3"))
//	var shop = pgxscope.Open("postgres://app@{host}/shop", dbscope.Router(nodes))
//
// It asks every host twice a second, each on a connection of its own and without
// waiting for the others. It asks a host at once if a session has met an error that
// may be its host's. It works with PostgreSQL 13 and later, and with [MariaDB]. On
// PostgreSQL a role with pg_read_all_stats sees sooner that a replica follows a
// new primary.
//
// Each host must be one server, always the same. If a name stands for several servers,
// two answers from it may come from two servers, and cannot be compared.
package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope/driver"
)

// Errors of sessions for which there is no host; they come wrapped, with what
// is known of each host.
var (
	ErrNoPrimary  = errors.New("no host accepts writes")
	ErrSplitBrain = errors.New("two hosts accept writes, and neither came after the other")
	ErrNoReplica  = errors.New("no replica is fresh enough")
)

// Cluster is a [driver.Router]: it watches the hosts from the first session to
// the closing of the last DB that uses it. Several DBs can share one. It is safe
// for concurrent use.
type Cluster struct {
	find     func(context.Context) ([]string, error)
	dialect  dialect
	interval time.Duration
	wait     time.Duration
	maxLag   time.Duration
	leastLag bool
	noPrim   bool // replicas only
	keys     []*key
	setup    error // of the options

	view atomic.Pointer[view]
	turn atomic.Uint32 // of the replicas

	mu      sync.Mutex
	open    func(ctx context.Context, host string) (driver.Engine, error)
	users   map[int]func(host string, gone bool) // told of hosts that were left
	nextUse int
	stop    context.CancelFunc // nil while nothing is watched
	done    *sync.WaitGroup
	members map[string]*member
	missing error  // of find
	writer  string // the last primary
	newest  state  // of the newest primary seen
	history []passed
}

// Option changes a Cluster.
type Option func(*Cluster)

// New makes a cluster of the hosts that find returns, as they stand for {host}
// in the connection string: with their ports where these differ. find is called
// with the first session, and then every ten seconds, every second while there
// is no primary; its error leaves the last list in use. What is no host (see
// [dbscope.DB.SwitchHost]) is left out, and the errors of sessions for which there is
// no host tell of it. New opens nothing.
func New(find func(ctx context.Context) ([]string, error), opts ...Option) *Cluster {
	c := &Cluster{
		find: find, dialect: postgres{}, interval: 500 * time.Millisecond, wait: 5 * time.Second, maxLag: 10 * time.Second,
		users: map[int]func(string, bool){}, members: map[string]*member{},
	}
	for _, o := range opts {
		o(c)
	}
	c.missing = errors.New("it has not answered yet")
	c.view.Store(&view{problem: ErrNoPrimary, changed: make(chan struct{})})
	return c
}

// List is for [New]: hosts that are known.
func List(hosts ...string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return hosts, nil }
}

// MariaDB says that the hosts are MariaDB servers that replicate with GTIDs:
// replicas have read_only on, and positions are those of the domain
// gtid_domain_id. MariaDB has no timelines: while two hosts have read_only off,
// nothing is written.
func MariaDB() Option { return func(c *Cluster) { c.dialect = mariadb{} } }

// PollEvery sets the time between two questions to a host. The default is half
// a second; while there is no primary it is at most a tenth of one.
func PollEvery(d time.Duration) Option { return func(c *Cluster) { c.interval = d } }

// Wait sets how long a session waits for a host when there is none. The default
// is 5 seconds.
func Wait(d time.Duration) Option { return func(c *Cluster) { c.wait = d } }

// MaxLag sets how far behind the primary a replica may be that still gets
// sessions. The default is 10 seconds. While there is no primary, the replica
// that has come farthest gets them, however far that is. It is measured in steps of [PollEvery].
// A token of [SignedBy] lives 30 seconds, which is the most that makes sense
// here.
func MaxLag(d time.Duration) Option { return func(c *Cluster) { c.maxLag = d } }

// LeastLag sends sessions to the replica with the least lag. The default is
// each fresh one in turn.
func LeastLag() Option { return func(c *Cluster) { c.leastLag = true } }

// ReplicasOnly makes a scope with [dbscope.ReadOnly] fail with [ErrNoReplica]
// where no replica is fresh enough. The default is to give it the primary.
func ReplicasOnly() Option { return func(c *Cluster) { c.noPrim = true } }

// SignedBy sets the keys of tokens, see [dbscope.WritesToken]: the first signs,
// all are accepted. Each has 32 random bytes, the same in every process of the
// service. Without keys reads see the writes of their own process only.
//
// A key is changed in three deployments, each finished before the next begins:
// SignedBy(old, new), SignedBy(new, old), and, once tokens of the old key are
// older than 30 seconds, SignedBy(new). Were the new key to sign at once, the
// processes that do not have it yet would ignore its tokens, and clients would read
// old data.
//
// A token is signed, not encrypted: who has it can read how far the database's log
// had come, on which timeline, and when.
func SignedBy(keys ...[]byte) Option {
	return func(c *Cluster) {
		c.keys = nil
		for _, k := range keys {
			if len(k) < 32 {
				c.setup = errors.New("cluster: a key given to SignedBy is shorter than 32 bytes")
			}
			c.keys = append(c.keys, newKey(k))
		}
	}
}

// Node is what is known of a host.
type Node struct {
	Host     string
	Primary  bool            // it accepts writes
	Position driver.Position // that it has written, or replayed
	Lag      time.Duration   // behind the primary, where Known
	Fresh    bool            // it gets sessions of read-only scopes, as a replica
	Seen     time.Time       // when it answered last, zero for never
	Err      error           // why it did not answer the last time
}

// Nodes returns what is known of each host, for a health check or a metric. It
// does not block; before the first session it returns none.
func (c *Cluster) Nodes() []Node { return c.view.Load().nodes }
