package patronitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// ErrNoLeader is what [Cluster.Leader] answers while the nodes have none.
var ErrNoLeader = errors.New("patronitest: no leader")

// Leader is the node that the cluster takes for its primary, or [ErrNoLeader].
// For some seconds after a fault that may be one that is dead.
func (c *Cluster) Leader(ctx context.Context) (*Node, error) {
	status, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if n := c.node(status.Leader); n != nil {
		return n, nil
	}
	return nil, ErrNoLeader
}

func (c *Cluster) node(name string) *Node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// WaitLeader blocks until there is a primary that answers and is none of those
// given, and returns it. It returns an error where there cannot be one: when the
// primary dies while no replica is in step with it, Patroni waits for its return
// rather than lose what was committed.
func (c *Cluster) WaitLeader(ctx context.Context, not ...*Node) (*Node, error) {
	var leader *Node
	err := wait(ctx, func() error {
		status, err := c.Status(ctx)
		if err != nil {
			return c.orDead(err)
		}
		leader = c.node(status.Leader)
		switch {
		case leader == nil && status.Sync == "" && slices.Contains(not, c.node(status.committed)):
			return final(fmt.Errorf("no replica is in step, so that none takes the place of %s", status.committed))
		case leader == nil:
			return c.orDead(ErrNoLeader)
		case slices.Contains(not, leader):
			return fmt.Errorf("the leader is still %s", leader)
		}
		_, err = leader.primary(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return leader, nil
}

// orDead makes an error final where no Patroni is left that could mend it.
func (c *Cluster) orDead(err error) error {
	for _, n := range c.nodes {
		n.mu.Lock()
		pid := n.pid
		n.mu.Unlock()
		if pid != 0 && alive(pid) {
			return err
		}
	}
	return final(fmt.Errorf("%w, and no Patroni runs", err))
}

// isPrimary knows both names of the role: Patroni 4 says primary where those
// before it said master.
func isPrimary(role string) bool { return role == "primary" || role == "master" }

// primary is an error unless the node is one and answers.
func (n *Node) primary(ctx context.Context) (report, error) {
	r, err := n.ask(ctx)
	if err == nil && (r.State != "running" || !isPrimary(r.Role)) {
		err = fmt.Errorf("the leader, %s, is a %s that is %s", n, r.Role, r.State)
	}
	return r, err
}

// WaitHealthy blocks until there is a primary to which both other nodes
// replicate, one of them synchronously. Where a fault is not lifted it returns
// an error at once.
func (c *Cluster) WaitHealthy(ctx context.Context) error {
	return wait(ctx, func() error {
		for _, n := range c.nodes {
			if err := n.fault(); err != nil {
				return final(err)
			}
		}
		return c.healthy(ctx)
	})
}

func (c *Cluster) healthy(ctx context.Context) error {
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	leader := c.node(status.Leader)
	if leader == nil {
		return ErrNoLeader
	}
	r, err := leader.primary(ctx)
	if err != nil {
		return err
	}
	if len(status.Members) < size {
		return fmt.Errorf("only %d members", len(status.Members))
	}
	for _, m := range status.Members {
		if m.State != "running" || m.Timeline != r.Timeline || isPrimary(m.Role) != (m.Name == leader.name) {
			return fmt.Errorf("%s is a %s that is %s on timeline %d", m.Name, m.Role, m.State, m.Timeline)
		}
	}
	streaming := map[string]string{}
	for _, peer := range r.Replication {
		if peer.State == "streaming" {
			streaming[peer.Name] = peer.SyncState
		}
	}
	if len(streaming) < size-1 {
		return fmt.Errorf("only %d replicas", len(streaming))
	}
	if status.Sync == "" || streaming[status.Sync] != "sync" {
		return fmt.Errorf("no synchronous replica: %q, of %v", status.Sync, streaming)
	}
	return nil
}

// Switchover makes another node the primary, in order, and returns it once it
// answers.
func (c *Cluster) Switchover(ctx context.Context) (*Node, error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	// Patroni answers when it is done.
	request := map[string]string{"leader": leader.name}
	if err := c.call(ctx, time.Minute, http.MethodPost, "http://"+address(leader.restPort)+"/switchover", request, nil); err != nil {
		return nil, err
	}
	return c.WaitLeader(ctx, leader)
}
