// Package cable leads TCP connections to one server, and cuts them at any moment. Unlike
// the proxy of package wire it does not know what passes.
package cable

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Cable is such a cable. It is safe for concurrent use.
type Cable struct {
	server   string
	listener net.Listener
	running  sync.WaitGroup

	mu   sync.Mutex
	open map[*net.TCPConn]*net.TCPConn // clients, and their connections to the server
}

// Lay lays one to the server at an address of the form host:port. It lives until the
// test ends, with all its connections.
func Lay(t testing.TB, server string) *Cable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cable{server: server, listener: listener, open: map[*net.TCPConn]*net.TCPConn{}}
	c.running.Go(c.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		c.Cut(1)
		c.running.Wait()
	})
	return c
}

// Addr is where the cable begins, as host:port.
func (c *Cable) Addr() string { return c.listener.Addr().String() }

func (c *Cable) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.running.Go(func() { c.lead(client.(*net.TCPConn)) })
	}
}

func (c *Cable) lead(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	to, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	server := to.(*net.TCPConn)
	defer func() { _ = server.Close() }()
	c.mu.Lock()
	c.open[client] = server
	c.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [2][2]*net.TCPConn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(struct{ io.Writer }{way[1]}, struct{ io.Reader }{way[0]}) // without splice, which keeps pipes open
			_ = way[1].CloseWrite()
		})
	}
	both.Wait()
	c.mu.Lock()
	delete(c.open, client)
	c.mu.Unlock()
}

// Cut ends each connection with the given probability, with a reset on both sides.
func (c *Cable) Cut(probability float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for client, server := range c.open {
		if rand.Float64() < probability {
			_ = client.SetLinger(0)
			_ = server.SetLinger(0)
			_ = client.Close()
			_ = server.Close()
		}
	}
}
