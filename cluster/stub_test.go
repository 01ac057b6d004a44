package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/check"
)

var ok = check.OK

var errRefused = errors.New("connection refused")

// servers stand for the hosts of a network.
type servers struct {
	mu      sync.Mutex
	all     map[string]*server
	engines int // that are open
	conns   int
}

// server is what one host does.
type server struct {
	row    []string // its answer
	err    error    // of connecting
	silent bool
	asked  int
	asks   string // the last question
	dialed int
	lost   bool // the connections that are open
	pooled bool // by something in between
}

func network() *servers { return &servers{all: map[string]*server{}} }

// set changes what a host does.
func (n *servers) set(host string, change func(*server)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all[host] == nil {
		n.all[host] = &server{}
	}
	change(n.all[host])
}

func (n *servers) primary(host string, timeline, number int) {
	n.set(host, func(s *server) { s.row = postgres("f", timeline, number, 77) })
}

func (n *servers) replica(host string, timeline, number int) {
	n.set(host, func(s *server) { s.row = postgres("t", timeline, number, 77) })
}

func postgres(recovers string, timeline, number, system int) []string {
	return []string{recovers, strconv.Itoa(number), strconv.Itoa(timeline), strconv.Itoa(system), "4711"}
}

func (n *servers) refuses(host string, refuses bool) {
	n.set(host, func(s *server) {
		s.err = nil
		if refuses {
			s.err = errRefused
		}
	})
}

func (n *servers) silent(host string, silent bool) {
	n.set(host, func(s *server) { s.silent = silent })
}

func (n *servers) asked(host string) (times int) {
	n.set(host, func(s *server) { times = s.asked })
	return times
}

func (n *servers) get(host string) server {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.all[host]; s != nil {
		return *s
	}
	return server{err: errRefused}
}

// open opens a pool.
func (n *servers) open(_ context.Context, host string) (driver.Engine, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.engines++
	return &engine{n, host}, nil
}

type engine struct {
	*servers
	host string
}

func (e *engine) Acquire(ctx context.Context) (driver.Conn, error) {
	e.set(e.host, func(s *server) { s.dialed++ })
	switch s := e.get(e.host); {
	case s.silent:
		<-ctx.Done()
		return nil, errors.New("dialing took too long") // as some drivers say it
	case s.err != nil:
		return nil, s.err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns++
	return &conn{engine: e, opened: time.Now()}, nil
}

func (e *engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.engines--
	return nil
}

// conn is a connection that can only be asked.
type conn struct {
	driver.Conn
	*engine
	opened time.Time
}

func (c *conn) FirstRow(ctx context.Context, question string) ([]string, error) {
	c.set(c.host, func(s *server) { s.asked++; s.asks = question })
	switch s := c.get(c.host); {
	case s.silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case s.err != nil:
		return nil, s.err
	case s.lost:
		c.set(c.host, func(s *server) { s.lost = false })
		return nil, errors.New("connection reset")
	default:
		return s.row, nil
	}
}

func (c *conn) Release(bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns--
}

// Backend implements [driver.BackendIdentifier].
func (c *conn) Backend() (time.Time, uint32) {
	if c.get(c.host).pooled {
		return c.opened, 1
	}
	return c.opened, 4711
}

// use begins to use the cluster, until the test ends, and looks at what is left.
func use(t testing.TB, c *cluster.Cluster, n *servers) (stop func()) {
	return useTold(t, c, n, func(string, bool) {})
}

func useTold(t testing.TB, c *cluster.Cluster, n *servers, left func(string, bool)) (stop func()) {
	leave := c.Use(n.open, left)
	stop = sync.OnceFunc(func() {
		ok(t, leave())
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.engines != 0 || n.conns != 0 {
			t.Errorf("%d pools and %d connections are left", n.engines, n.conns)
		}
	})
	return stop
}

var (
	writes = driver.RouteRequest{}
	reads  = driver.RouteRequest{ReadOnly: true}
)

// route is where a session goes.
func route(t testing.TB, c *cluster.Cluster, need driver.RouteRequest) driver.Route {
	t.Helper()
	r, err := c.Route(t.Context(), need)
	ok(t, err)
	return r
}

func goes(t testing.TB, c *cluster.Cluster, need driver.RouteRequest, host string) {
	t.Helper()
	if r := route(t, c, need); r.Host != host {
		t.Fatalf("a session that needs %+v went to %q, want %q", need, r.Host, host)
	}
}

func fails(t testing.TB, c *cluster.Cluster, need driver.RouteRequest, target error) (text string) {
	t.Helper()
	r, err := c.Route(t.Context(), need)
	if !errors.Is(err, target) {
		t.Fatalf("it went to %q, error is %v, want one that is %q", r.Host, err, target)
	}
	return err.Error()
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if got, want := fmt.Sprint(got), fmt.Sprint(want); got != want {
		t.Fatalf("%s: got %s, want %s", what, got, want)
	}
}
