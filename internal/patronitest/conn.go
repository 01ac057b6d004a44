package patronitest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds a connection to a server of this machine.
const dialTimeout = 5 * time.Second

// conn is a client's connection and the one to the server that it goes on to.
type conn struct {
	client *net.TCPConn
	killed chan struct{} // closed by kill

	mu     sync.Mutex
	server *net.TCPConn // nil until it is there
	gates  []*gate      // that it passes
	dead   bool
}

func newConn(client net.Conn) *conn {
	return &conn{client: client.(*net.TCPConn), killed: make(chan struct{})}
}

// run returns when nothing of the connection is left.
func (c *conn) run(l *link) {
	defer c.leave()
	c.enter(l.gate)
	if !c.pass() {
		c.kill()
		return
	}
	server, err := net.DialTimeout("tcp", l.target, dialTimeout)
	if err != nil {
		c.kill() // the nearest to a refusal
		return
	}
	c.mu.Lock()
	c.server = server.(*net.TCPConn)
	if c.dead {
		reset(c.server)
	}
	c.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.copy(c.server, c.client, c.recognizer(l.peers)) })
	both.Go(func() { c.copy(c.client, c.server, func([]byte) {}) })
	both.Wait()
	_ = c.client.Close() // may be closed already
	_ = c.server.Close() // may be closed already
}

// copy passes on what src says, also that it says no more.
func (c *conn) copy(dst, src *net.TCPConn, look func([]byte)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		look(buf[:n])
		if !c.pass() {
			c.kill()
			return
		}
		if n > 0 {
			if _, writeErr := dst.Write(buf[:n]); writeErr != nil {
				c.kill()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			_ = dst.CloseWrite() // it may be gone
			return
		}
		if err != nil {
			c.kill()
			return
		}
	}
}

// recognizer finds out which node a connection replicates to, by the name that
// Patroni has it give, and makes it pass that node's network too.
func (c *conn) recognizer(peers map[string]*gate) func([]byte) {
	looks := 3 // a request for encryption comes first, and is refused
	return func(data []byte) {
		if looks == 0 {
			return
		}
		looks--
		for name, g := range peers {
			if bytes.Contains(data, []byte("application_name\x00"+name+"\x00")) {
				looks = 0
				c.enter(g)
			}
		}
	}
}

func (c *conn) enter(g *gate) {
	c.mu.Lock()
	c.gates = append(c.gates, g)
	c.mu.Unlock()
	g.enter(c)
}

func (c *conn) leave() {
	for _, g := range c.passing() {
		g.leave(c)
	}
}

func (c *conn) passing() []*gate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gates
}

// pass blocks while a network is stalled. It is false when the connection is over.
func (c *conn) pass() bool {
	for _, g := range c.passing() {
		if !g.pass(c) {
			return false
		}
	}
	return true
}

// kill resets both ends.
func (c *conn) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	c.dead = true
	close(c.killed)
	reset(c.client)
	if c.server != nil {
		reset(c.server)
	}
}

// reset closes a connection so that the other side gets a RST, where the
// system can.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // then it is a FIN
	_ = c.Close()      // may be closed already
}
