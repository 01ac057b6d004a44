package patronitest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/dbscope/dbscope/internal/child"
)

// state is that of a node's network.
type state int

const (
	open    state = iota
	stalled       // nothing passes; it waits
	cut           // connections are reset and refused
)

func (s state) String() string { return [...]string{"open", "stalled", "cut"}[s] }

// gate is what every connection of one node passes.
type gate struct {
	mu      sync.Mutex
	state   state
	changed chan struct{} // closed by the next change
	links   []*link
	conns   map[*conn]struct{}
}

func newGate() *gate { return &gate{changed: make(chan struct{}), conns: map[*conn]struct{}{}} }

// set returns an error where a port that was given up for a cut is taken.
func (g *gate) set(to state) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == to {
		return nil
	}
	g.state = to
	close(g.changed)
	g.changed = make(chan struct{})
	var errs []error
	for _, l := range g.links {
		if to == cut {
			l.close()
		} else {
			errs = append(errs, l.listen())
		}
	}
	if to == cut {
		for c := range g.conns {
			c.kill()
		}
	}
	return errors.Join(errs...)
}

// pass blocks while the network is stalled. It is false when c is over.
func (g *gate) pass(c *conn) bool {
	for {
		g.mu.Lock()
		state, changed := g.state, g.changed
		g.mu.Unlock()
		if state != stalled {
			return state == open
		}
		select {
		case <-changed:
		case <-c.killed:
			return false
		}
	}
}

func (g *gate) enter(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == cut {
		c.kill()
	}
	g.conns[c] = struct{}{}
}

func (g *gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// link passes on the connections to one server.
type link struct {
	gate   *gate
	port   int
	target string
	peers  map[string]*gate // of the nodes that connect to it, by name

	running *sync.WaitGroup

	listener net.Listener // nil while the gate is cut; guarded by the gate
}

// newLink opens a way to a port, through a gate. Where peers are given, a
// connection by which one of them replicates passes that one's gate too.
func newLink(running *sync.WaitGroup, g *gate, port int, peers map[string]*gate) (*link, error) {
	l := &link{gate: g, target: address(port), peers: peers, running: running}
	g.mu.Lock()
	defer g.mu.Unlock()
	for attempt := 1; ; attempt++ {
		var err error
		if l.port, err = child.FreePort(); err == nil {
			err = l.listen()
		}
		if err == nil {
			g.links = append(g.links, l)
			return l, nil
		}
		if attempt == 5 {
			return nil, err
		}
	}
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func (l *link) listen() error {
	if l.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", address(l.port))
	if err != nil {
		return fmt.Errorf("patronitest: a link cannot be opened: %w", err)
	}
	l.listener = listener
	l.running.Go(func() { l.accept(listener) })
	return nil
}

func (l *link) close() {
	if l.listener != nil {
		_ = l.listener.Close()
		l.listener = nil
	}
}

func (l *link) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // it is closed
		}
		l.running.Go(func() { newConn(client).run(l) })
	}
}
