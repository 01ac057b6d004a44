package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dbscope/dbscope/driver"
)

// maxFailures is how many hosts a session tries.
const maxFailures = 20

// Host implements [driver.Router].
func (c *Cluster) Host() string { return c.view.Load().primary }

// Route implements [driver.Router].
func (c *Cluster) Route(ctx context.Context, need driver.RouteRequest) (driver.Route, error) {
	if need.Failures < maxFailures {
		if r, ok := c.pick(c.view.Load(), need); ok {
			return r, nil
		}
	}
	return c.waitFor(ctx, need)
}

// waitFor waits for a view in which there is a host.
func (c *Cluster) waitFor(ctx context.Context, need driver.RouteRequest) (driver.Route, error) {
	late := time.NewTimer(c.wait)
	defer late.Stop()
	for {
		if err := c.start(); err != nil {
			return driver.Route{}, err
		}
		v := c.view.Load()
		r, ok := c.pick(v, need)
		switch {
		case ok && need.Failures < maxFailures:
			return r, nil
		case ok:
			return r, c.explain(v, fmt.Errorf("none of %d connections could be made", need.Failures))
		case v.asked && need.ReadOnly && c.noPrim && (v.primary != "" || need.Behind):
			return r, c.explain(v, ErrNoReplica)
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return driver.Route{}, c.explain(v, fmt.Errorf("%w: %w", c.why(v, need), context.Cause(ctx)))
		case <-late.C:
			return driver.Route{}, c.explain(v, fmt.Errorf("%w, after %v", c.why(v, need), c.wait))
		}
	}
}

// why tells what a session waits for.
func (c *Cluster) why(v *view, need driver.RouteRequest) error {
	if v.problem == nil || need.ReadOnly && c.noPrim {
		return ErrNoReplica
	}
	return v.problem
}

// explain adds what is known of the hosts.
func (c *Cluster) explain(v *view, err error) error {
	var b strings.Builder
	for _, n := range v.nodes {
		fmt.Fprintf(&b, "; %s ", n.Host)
		switch {
		case n.Err != nil:
			b.WriteString(n.Err.Error())
		case n.Seen.IsZero():
			b.WriteString("has not answered yet")
		case n.Primary:
			fmt.Fprintf(&b, "accepts writes (timeline %d)", n.Position.Timeline)
		default:
			fmt.Fprintf(&b, "is a replica, %v behind", n.Lag)
		}
	}
	c.mu.Lock()
	missing := c.missing
	c.mu.Unlock()
	if missing != nil {
		return fmt.Errorf("cluster: %w%s; finding the hosts: %w", err, b.String(), missing)
	}
	return fmt.Errorf("cluster: %w%s", err, b.String())
}

// pick chooses among the hosts of the view. It does not block.
func (c *Cluster) pick(v *view, need driver.RouteRequest) (driver.Route, bool) {
	if need.ReadOnly && !need.Behind && len(v.replicas) > 0 {
		after := need.After
		if len(need.Token) > 0 {
			if p := c.read(need.Token, v.id); after.Before(p) {
				after = p
			}
		}
		if r := c.pickReplica(v.replicas, after); r != nil && after != driver.Newest {
			return driver.Route{Host: r.host, Replica: true, After: after}, true
		}
	}
	if need.ReadOnly && c.noPrim {
		return driver.Route{}, false
	}
	return driver.Route{Host: v.primary}, v.primary != ""
}

// pickReplica returns the next one that has reached the position, as far as is
// known, or the one that has come farthest.
func (c *Cluster) pickReplica(fresh []replica, after driver.Position) *replica {
	var best *replica
	start := 0
	if !c.leastLag {
		start = int(c.turn.Add(1)) % len(fresh)
	}
	for i := range fresh {
		r := &fresh[(start+i)%len(fresh)]
		switch there := reached(r.at, after); {
		case there && !c.leastLag:
			return r
		case best == nil, best.at.Before(r.at):
			best = r
		}
	}
	return best
}

// patience is how long a session waits for a replica to come as far as it
// needs, and then goes to the primary.
const patience = 50 * time.Millisecond

// again makes the transaction in which a question was asked a new one, on the
// same connection of the server: its snapshot may be older than the answer.
const again = "; COMMIT AND CHAIN"

// Ready implements [driver.Router]. A replica that was asked after this
// connection was made is as far as it was then, for this one would have been
// lost if it had been started again; unless a pooler holds it, which may also
// give each transaction another connection of the server.
func (c *Cluster) Ready(ctx context.Context, conn driver.Conn, r driver.Route) (bool, error) {
	if !r.Replica {
		return true, nil
	}
	if backend, ok := conn.(driver.BackendIdentifier); ok && c.knows(r, backend) {
		return true, nil
	}
	question := c.dialect.probe()
	if _, inside := conn.(driver.CommitQuerier); inside {
		question += again
	}
	until := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause *= 2 {
		row, err := conn.FirstRow(ctx, question)
		if err != nil {
			return false, err
		}
		s, err := c.dialect.state(row)
		switch {
		case err != nil:
			return false, err
		case reached(s.at, r.After):
			return true, nil
		case time.Now().Add(pause).After(until):
			return false, nil
		}
		sleep(ctx, pause, nil)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
}

// knows reports whether the replica had come as far when it was asked, and the
// connection was there by then, and ends when the server does.
func (c *Cluster) knows(r driver.Route, conn driver.BackendIdentifier) bool {
	opened, _ := conn.Backend()
	for _, f := range c.view.Load().replicas {
		if f.host == r.Host {
			return f.direct && reached(f.at, r.After) && opened.Before(f.asked)
		}
	}
	return false
}

// Queries implements [driver.Router].
func (c *Cluster) Queries() (before, after string) { return c.dialect.queries() }

// Position implements [driver.Router].
func (c *Cluster) Position(before, after []string) (driver.Position, bool) {
	return c.dialect.position(before, after)
}
