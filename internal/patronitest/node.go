package patronitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/dbscope/dbscope/internal/child"
)

// Node is one PostgreSQL with its Patroni.
type Node struct {
	cluster *Cluster
	name    string
	dir     string
	gate    *gate

	port, restPort int   // where PostgreSQL and Patroni listen
	front, rest    *link // to these
	etcd           *link // of this node's Patroni

	mu     sync.Mutex
	pid    int // of Patroni, 0 when it was killed
	frozen bool
}

// Name is what Patroni calls the node: node1, node2 or node3.
func (n *Node) Name() string { return n.name }

func (n *Node) String() string { return n.name }

// Host is the address for clients, "127.0.0.1:port".
func (n *Node) Host() string { return address(n.front.port) }

// DSN is [Cluster.DSN] with this node's host.
func (n *Node) DSN() string { return strings.ReplaceAll(n.cluster.DSN(), "{host}", n.Host()) }

// adminDSN leads past the proxy.
func (n *Node) adminDSN(database string) string {
	return "postgres://" + superuser + "@" + address(n.port) + "/" + database + "?sslmode=disable"
}

// prepare writes the files of a node and opens its links.
func (n *Node) prepare(gates map[string]*gate) (err error) {
	if err := makeDirectory(n.dir); err != nil {
		return err
	}
	for _, port := range []*int{&n.port, &n.restPort} {
		if *port, err = child.FreePort(); err != nil {
			return err
		}
	}
	links := &n.cluster.links
	if n.front, err = newLink(links, n.gate, n.port, gates); err != nil {
		return err
	}
	if n.rest, err = newLink(links, n.gate, n.restPort, nil); err != nil {
		return err
	}
	if n.etcd, err = newLink(links, n.gate, n.cluster.etcdPort, nil); err != nil {
		return err
	}
	return n.configure(n.cluster.programs.postgres)
}

func (n *Node) start() (err error) {
	n.pid, err = n.cluster.exec(n.cluster.programs.patroni, []string{n.configFile()}, n.dir, n.logFile())
	return err
}

// KillPostgres ends the main process of PostgreSQL as kill -9 does, and returns
// when it is gone. Patroni, which lives, starts it again.
func (n *Node) KillPostgres() error {
	content, err := os.ReadFile(filepath.Join(n.data(), "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("patronitest: %s has no PostgreSQL to kill: %w", n, err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return fmt.Errorf("patronitest: %s: postmaster.pid: %w", n, err)
	}
	return killProcess(pid)
}

// KillPatroni ends Patroni as kill -9 does, and leaves PostgreSQL running with
// nobody to look after it. A primary so abandoned does not know when another
// takes its place: it is what no application should talk to.
func (n *Node) KillPatroni() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid == 0 {
		return nil
	}
	err := killProcess(n.pid)
	n.pid = 0
	return err
}

// Kill ends all processes of the node as kill -9 does, and returns when they
// are gone. [Node.Restart] brings it back.
func (n *Node) Kill() error {
	if err := n.KillPatroni(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = false
	return killWithin(n.dir)
}

// Restart starts the Patroni of a node again after [Node.Kill] or
// [Node.KillPatroni], and that PostgreSQL. It does not wait for it:
// [Cluster.WaitHealthy] does.
func (n *Node) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid != 0 {
		return nil
	}
	return n.start()
}

// Freeze stops all processes of the node as SIGSTOP does: connections stay, and
// nobody answers.
func (n *Node) Freeze() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = true
	return freezeWithin(n.dir)
}

// Thaw ends a [Node.Freeze]. The node goes on where it was: it may take itself
// for the primary until it has looked.
func (n *Node) Thaw() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = false
	return thawWithin(n.dir)
}

// Cut parts the node from clients, the other nodes and the etcd: connections
// are reset, and new ones refused.
func (n *Node) Cut() error { return n.gate.set(cut) }

// Stall parts the node as [Node.Cut] does, but so that nobody is told:
// connections, new ones too, stay open, and what is sent waits.
func (n *Node) Stall() error { return n.gate.set(stalled) }

// Heal ends a [Node.Cut] or a [Node.Stall].
func (n *Node) Heal() error { return n.gate.set(open) }

// Repair ends whatever was done to the node by the methods above. It does not
// wait for the outcome.
func (n *Node) Repair() error { return errors.Join(n.Heal(), n.Thaw(), n.Restart()) }

// fault says what was done to the node and not yet undone.
func (n *Node) fault() error {
	n.gate.mu.Lock()
	network := n.gate.state
	n.gate.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.pid == 0:
		return fmt.Errorf("%s was killed", n)
	case n.frozen:
		return fmt.Errorf("%s is frozen", n)
	case network != open:
		return fmt.Errorf("the network of %s is %s", n, network)
	case !alive(n.pid):
		return fmt.Errorf("the Patroni of %s has ended by itself", n)
	}
	return nil
}

// report is what a node says of itself at this moment.
type report struct {
	State       string `json:"state"`
	Role        string `json:"role"`
	Timeline    int    `json:"timeline"`
	Unlocked    bool   `json:"cluster_unlocked"`
	Replication []struct {
		Name      string `json:"application_name"`
		State     string `json:"state"`
		SyncState string `json:"sync_state"`
	} `json:"replication"`
}

// ask gets past the proxy. Patroni asks its PostgreSQL before it answers.
func (n *Node) ask(ctx context.Context) (report, error) {
	var r report
	err := n.cluster.call(ctx, requestTimeout, http.MethodGet, "http://"+address(n.restPort)+"/patroni", nil, &r)
	return r, err
}
