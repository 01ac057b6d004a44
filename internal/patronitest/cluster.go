package patronitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/pgtest"
)

const (
	directoryPrefix = "dbscope-patronitest-"
	startTimeout    = 90 * time.Second // on a busy machine
	size            = 3
)

var errNotSupported = errors.New("patronitest: a cluster needs Linux")

// Cluster is three nodes, and the etcd through which they agree. Its methods
// are safe for concurrent use.
type Cluster struct {
	programs programs
	dir      string
	keeper   *keeper
	etcdPort int
	etcdPID  int
	nodes    []*Node
	links    sync.WaitGroup // what the proxies run
	http     *http.Client
}

// New starts a cluster and blocks until it is healthy, as [Cluster.WaitHealthy]
// has it, and has the database of [Cluster.DSN]. ctx bounds the start only: the
// cluster lives until [Cluster.Close], or until this process dies.
func New(ctx context.Context) (*Cluster, error) {
	if !supported {
		return nil, errNotSupported
	}
	found, err := findPrograms()
	if err != nil {
		return nil, err
	}
	removeAbandoned()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	// Between the choice of a port and its use another process may take it.
	for attempt := 1; ; attempt++ {
		c := &Cluster{programs: found, http: &http.Client{
			Transport: &http.Transport{DisableKeepAlives: true},
		}}
		err := c.start(ctx)
		if err == nil {
			return c, nil
		}
		logs := c.Logs()
		err = errors.Join(fmt.Errorf("%w\n%s", err, logs), c.Close())
		if attempt == 3 || ctx.Err() != nil || !strings.Contains(strings.ToLower(logs), "address already in use") {
			return nil, err
		}
	}
}

func (c *Cluster) start(ctx context.Context) (err error) {
	owner, err := pgtest.Owner()
	if err != nil {
		return err
	}
	if c.dir, err = child.MakeDirectory(directoryPrefix, owner); err != nil {
		return err
	}
	if c.keeper, err = startKeeper(c.dir); err != nil {
		return err
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	gates := map[string]*gate{}
	for i := range size {
		n := &Node{cluster: c, name: fmt.Sprintf("node%d", i+1), gate: newGate()}
		n.dir = filepath.Join(c.dir, n.name)
		c.nodes = append(c.nodes, n)
		gates[n.name] = n.gate
	}
	for _, n := range c.nodes {
		if err := n.prepare(gates); err != nil {
			return err
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		return err
	}
	// Before the replicas copy the data: they copy these too.
	for _, statement := range []string{
		"create role " + user + " login password '" + password + "'",
		"grant pg_read_all_stats to " + user, // the timeline of replicas
		"create database " + database + " owner " + user,
	} {
		if _, err := pgtest.Psql(leader.adminDSN("postgres"), statement); err != nil {
			return err
		}
	}
	return c.WaitHealthy(ctx)
}

// Close ends all processes of the cluster and removes its files. It blocks
// until they are gone.
func (c *Cluster) Close() error {
	var err error
	for _, n := range c.nodes {
		err = errors.Join(err, n.gate.set(cut))
	}
	c.links.Wait()
	if c.keeper != nil {
		err = errors.Join(err, c.keeper.close())
	}
	c.http.CloseIdleConnections()
	return errors.Join(err, os.RemoveAll(c.dir))
}

// Nodes are all three, in the order of their names: node1, node2, node3.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Hosts are the addresses of the nodes for clients, "127.0.0.1:port" each. They
// stay the same as long as the cluster lives.
func (c *Cluster) Hosts() []string {
	var hosts []string
	for _, n := range c.nodes {
		hosts = append(hosts, n.Host())
	}
	return hosts
}

// DSN is the connection URL of an empty database, for a user that owns it; it
// has {host} in the place of the host.
func (c *Cluster) DSN() string {
	return "postgres://" + user + ":" + password + "@{host}/" + database + "?sslmode=disable"
}

// Logs are the ends of all logs, those of Patroni with PostgreSQL's in them.
func (c *Cluster) Logs() string {
	var all strings.Builder
	show := func(name, file string) {
		fmt.Fprintf(&all, "end of the log of %s:\n%s\n", name, child.Tail(file, 0))
	}
	show("etcd", c.etcdLog())
	for _, n := range c.nodes {
		show(n.name, n.logFile())
	}
	return all.String()
}

// exec starts a program that lives as long as the cluster.
func (c *Cluster) exec(path string, args []string, dir, log string) (pid int, err error) {
	owner, err := pgtest.Owner()
	if err != nil {
		return 0, err
	}
	uid, gid, as := owner.IDs()
	return c.keeper.start(program{
		Path: path, Args: args, Dir: dir, Log: log,
		Env: environment(dir),
		As:  as, UID: uid, GID: gid,
	})
}

// makeDirectory creates a directory of the user that the programs run as.
func makeDirectory(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	owner, err := pgtest.Owner()
	if err != nil {
		return err
	}
	return owner.Give(dir)
}
