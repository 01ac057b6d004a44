package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/dsn"
	"github.com/dbscope/dbscope/internal/hostname"
)

const (
	connectTimeout = time.Second
	queryTimeout   = 500 * time.Millisecond
	findTimeout    = 5 * time.Second
	findEvery      = 10 * time.Second
	findHurried    = time.Second            // without a primary
	hurried        = 100 * time.Millisecond // the interval without a primary
	atMostEvery    = 20 * time.Millisecond  // a host is asked, whatever fails on it
	grace          = 3 * time.Second        // a host that is silent counts as it was
	historyLength  = time.Minute
)

// state is what a host says of itself.
type state struct {
	primary bool
	at      driver.Position
	cluster uint64 // the same on all of its hosts
	process uint32 // of the server, that has answered
	direct  bool   // the connection is with that process itself
}

// member is a host that is watched.
type member struct {
	host string
	kick chan struct{} // ask now
	stop context.CancelFunc

	// The cluster's mu guards the rest.
	state
	asked   time.Time // when the question of the last answer was
	err     error     // of the last question
	silent  bool      // no answer, which may come from the network
	suspect bool      // a session has met an error, and it was not asked since
}

// passed is a position that the primary had reached at a time.
type passed struct {
	at   driver.Position
	when time.Time
}

// view is what sessions see. It does not change.
type view struct {
	primary  string
	problem  error // why there is none
	replicas []replica
	nodes    []Node
	asked    bool          // all hosts were
	cluster  uint64        // of the newest primary
	id       uint32        // the same, in tokens
	changed  chan struct{} // closed when there is a newer one
}

// replica is one that is fresh enough.
type replica struct {
	host   string
	at     driver.Position
	asked  time.Time
	lag    time.Duration
	direct bool
}

// reached reports whether a server has come as far as after: on the same
// timeline or a later one.
func reached(at, after driver.Position) bool {
	return at.Timeline >= after.Timeline && at.Number >= after.Number
}

// Use implements [driver.Router].
func (c *Cluster) Use(open func(ctx context.Context, host string) (driver.Engine, error), left func(host string, gone bool)) func() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextUse
	c.nextUse++
	if len(c.users) == 0 {
		c.open = open
	}
	c.users[id] = left
	return func() error { return c.leave(id) }
}

// leave stops watching when the last DB is closed, and waits until it has
// stopped.
func (c *Cluster) leave(id int) error {
	c.mu.Lock()
	delete(c.users, id)
	stop, done := c.stop, c.done
	last := len(c.users) == 0 && stop != nil
	if last { // others may begin anew before all has stopped
		stop()
		c.stop = nil
		clear(c.members)
		c.rebuild()
	}
	c.mu.Unlock()
	if last {
		done.Wait()
	}
	return nil
}

// start begins to watch, once.
func (c *Cluster) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.setup != nil || c.stop != nil {
		return c.setup
	}
	if len(c.users) == 0 {
		return errors.New("cluster: the DBs that use it are closed")
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop, c.done = stop, &sync.WaitGroup{}
	c.done.Go(func() { c.discover(ctx) })
	return nil
}

// discover keeps the members those that find returns.
func (c *Cluster) discover(ctx context.Context) {
	for ctx.Err() == nil {
		finding, cancel := context.WithTimeout(ctx, findTimeout)
		found, err := c.find(finding)
		cancel()
		hosts, none := sift(found)
		switch {
		case err != nil:
			hosts, err = nil, new(dsn.Source).Mask(err) // one of a URL that could not be read shows its password
		case none != nil:
			err = none
		case len(hosts) == 0:
			err = errors.New("there are none")
		}
		c.setMembers(ctx, hosts, err)
		for waited := time.Duration(0); waited < findEvery; waited += findHurried {
			sleep(ctx, findHurried, nil)
			if c.view.Load().primary == "" {
				break
			}
		}
	}
}

// sift leaves out what is no host, and tells of it without repeating it: who may
// write into the list is perhaps not who may say where the program connects to
// and as whom.
func sift(found []string) (hosts []string, none error) {
	for i, host := range found {
		if err := hostname.Check(host); err != nil {
			none = fmt.Errorf("host %d of the list is none, and left out: %w", i+1, err)
			continue
		}
		hosts = append(hosts, host)
	}
	return hosts, none
}

// setMembers makes these hosts the members. Without any, those that there are stay.
func (c *Cluster) setMembers(ctx context.Context, hosts []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	c.missing = err
	if len(hosts) == 0 {
		c.rebuild()
		return
	}
	for _, h := range hosts {
		if c.members[h] != nil {
			continue
		}
		watching, stop := context.WithCancel(ctx)
		m := &member{host: h, kick: make(chan struct{}, 1), stop: stop}
		c.members[h] = m
		p := &prober{open: c.open, dialect: c.dialect, host: h}
		c.done.Go(func() { c.watch(watching, m, p) })
	}
	var gone []string
	for h, m := range c.members {
		if !slices.Contains(hosts, h) {
			m.stop()
			delete(c.members, h)
			gone = append(gone, h)
		}
	}
	c.rebuild()
	for _, h := range gone {
		c.tellLeft(h, true)
	}
}

// tellLeft tells the users of a host that sessions do not get any more. The
// caller holds mu, and has made the view.
func (c *Cluster) tellLeft(host string, gone bool) {
	for _, left := range c.users {
		left(host, gone)
	}
}

// watch asks one host again and again.
func (c *Cluster) watch(ctx context.Context, m *member, p *prober) {
	defer p.close()
	for ctx.Err() == nil {
		asked := time.Now()
		s, err := p.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		c.answered(m, asked, s, err)
		sleep(ctx, atMostEvery, nil)
		pause := c.interval
		if c.view.Load().primary == "" {
			pause = min(pause, hurried)
		}
		sleep(ctx, pause-atMostEvery, m.kick)
	}
}

func sleep(ctx context.Context, d time.Duration, until <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-until:
	case <-ctx.Done():
	}
}

// prober has the connection on which a host is asked.
type prober struct {
	open    func(ctx context.Context, host string) (driver.Engine, error)
	dialect dialect
	host    string
	engine  driver.Engine
	conn    driver.Conn
}

func (p *prober) ask(ctx context.Context) (state, error) {
	if p.conn != nil {
		if s, err := p.query(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			return s, err
		} // else the server may have been started again
	}
	if err := p.connect(ctx); err != nil {
		return state{}, fmt.Errorf("connecting: %w", err)
	}
	return p.query(ctx)
}

func (p *prober) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if p.engine == nil {
		if p.engine, err = p.open(ctx, p.host); err != nil {
			return err
		}
	}
	p.conn, err = p.engine.Acquire(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return err
}

func (p *prober) query(ctx context.Context) (s state, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	row, err := p.conn.FirstRow(ctx, p.dialect.probe())
	if err == nil {
		s, err = p.dialect.state(row)
	}
	if backend, ok := p.conn.(driver.BackendIdentifier); ok {
		_, process := backend.Backend()
		s.direct = process == s.process
	}
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		p.conn.Release(false)
		p.conn = nil
	}
	return s, err
}

func (p *prober) close() {
	if p.conn != nil {
		p.conn.Release(false)
	}
	if p.engine != nil {
		_ = p.engine.Close() // nothing was in use
	}
}

// answered takes an answer, or why there is none.
func (c *Cluster) answered(m *member, asked time.Time, s state, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.err = err; err == nil {
		m.state, m.asked, m.suspect, m.silent = s, asked, false, false
	} else {
		m.silent = errors.Is(err, context.DeadlineExceeded)
	}
	c.rebuild()
}

// Failed implements [driver.Router].
func (c *Cluster) Failed(host string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[host]
	if m == nil {
		return
	}
	m.suspect = true
	if m.err == nil {
		m.err = err
	}
	c.rebuild()
	select {
	case m.kick <- struct{}{}:
	default: // it is about to be asked
	}
}

// counts reports whether the host is as it was when it answered last.
func (m *member) counts() bool {
	return !m.asked.IsZero() && !m.suspect && (m.err == nil || m.silent && time.Since(m.asked) < grace)
}

// follows reports whether the host is a replica of the cluster, that answers.
func (m *member) follows(cluster uint64) bool {
	return !m.primary && m.counts() && m.cluster == cluster
}

// lastResort returns the replica that has come farthest, where there is no
// primary: nobody has more. It waits until all hosts were asked. The caller
// holds mu.
func (c *Cluster) lastResort(primary *member) (best *member) {
	for _, m := range c.members {
		switch {
		case primary != nil || m.err == nil && m.asked.IsZero():
			return nil
		case m.follows(cmp.Or(c.newest.cluster, m.cluster)) && (best == nil || best.at.Before(m.at)):
			best = m
		}
	}
	return best
}

// rebuild makes the view anew. The caller holds mu.
func (c *Cluster) rebuild() {
	v := &view{changed: make(chan struct{}), asked: c.missing != nil || len(c.members) > 0}
	primary, problem := c.choose()
	v.problem = problem
	if primary != nil {
		v.primary = primary.host
		c.remember(primary)
	}
	v.cluster, v.id = c.newest.cluster, shorten(c.newest.cluster)
	last := c.lastResort(primary)
	for _, m := range c.members {
		n := Node{Host: m.host, Primary: m.primary, Position: m.at, Seen: m.asked, Err: m.err}
		if m.follows(v.cluster) {
			lag, known := c.lag(m.at)
			n.Lag = lag
			n.Fresh = known && lag <= c.maxLag
		}
		n.Fresh = n.Fresh || m == last
		if n.Fresh {
			v.replicas = append(v.replicas, replica{m.host, m.at, m.asked, n.Lag, m.direct})
		}
		v.nodes = append(v.nodes, n)
		v.asked = v.asked && (m.err != nil || !m.asked.IsZero())
	}
	slices.SortFunc(v.nodes, func(a, b Node) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortFunc(v.replicas, func(a, b replica) int { return cmp.Compare(a.host, b.host) })
	was := c.view.Swap(v)
	close(was.changed)
	c.tellOf(was, v)
}

// tellOf tells the users which hosts sessions do not get any more. A primary is
// left only for another one: those who wait for it may as well wait there. The
// caller holds mu.
func (c *Cluster) tellOf(was, is *view) {
	for _, r := range was.replicas {
		if r.host != is.primary && !slices.ContainsFunc(is.replicas, func(s replica) bool { return s.host == r.host }) {
			c.tellLeft(r.host, false)
		}
	}
	if is.primary == "" || is.primary == c.writer {
		return
	}
	if c.writer != "" {
		c.tellLeft(c.writer, false)
	}
	c.writer = is.primary
}

// choose returns the host that writes, or why there is none. The caller holds
// mu.
func (c *Cluster) choose() (*member, error) {
	var best *member
	split := false
	for _, m := range c.members {
		if !m.primary || !m.counts() {
			continue
		}
		switch {
		case best == nil:
			best = m
		case m.cluster != best.cluster:
			return nil, ErrSplitBrain
		case m.at.Timeline > best.at.Timeline:
			best, split = m, false
		case m.at.Timeline == best.at.Timeline:
			split = true
		}
	}
	switch {
	case best == nil:
		return nil, ErrNoPrimary
	case split:
		return nil, ErrSplitBrain
	case best.cluster == c.newest.cluster && best.at.Timeline < c.newest.at.Timeline:
		return nil, fmt.Errorf("%w: host %s does, on timeline %d, but timeline %d was seen", ErrNoPrimary,
			best.host, best.at.Timeline, c.newest.at.Timeline)
	}
	return best, nil
}

// remember notes where the primary is. The caller holds mu.
func (c *Cluster) remember(m *member) {
	if m.cluster != c.newest.cluster {
		c.history = nil
	}
	c.newest = m.state
	last := len(c.history) - 1
	if last >= 0 && !m.asked.After(c.history[last].when) {
		return
	}
	c.history = append(c.history, passed{m.at, m.asked})
	old := 0
	for c.history[old].when.Before(m.asked.Add(-max(historyLength, c.maxLag))) {
		old++
	}
	c.history = slices.Delete(c.history, 0, old)
}

// lag tells how long before the last answer of the primary the replica's
// position was the primary's, at most. Without a primary nothing is written, so
// that nobody falls back further. The caller holds mu.
func (c *Cluster) lag(at driver.Position) (lag time.Duration, known bool) {
	for i := len(c.history) - 1; i >= 0; i-- {
		if reached(at, c.history[i].at) {
			return c.history[len(c.history)-1].when.Sub(c.history[i].when), true
		}
	}
	return 0, false
}
