package soak_test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// cable leads TCP connections to one server, and cuts them at any moment. Unlike
// the proxy of package wire it does not know what passes.
type cable struct {
	server   string
	listener net.Listener
	running  sync.WaitGroup

	mu   sync.Mutex
	open map[*net.TCPConn]*net.TCPConn // clients, and their connections to the server
}

func layCable(t *testing.T, server string) *cable {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	c := &cable{server: server, listener: listener, open: map[*net.TCPConn]*net.TCPConn{}}
	c.running.Go(c.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		c.cut(1)
		c.running.Wait()
	})
	return c
}

func (c *cable) addr() string { return c.listener.Addr().String() }

func (c *cable) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.running.Go(func() { c.lead(client.(*net.TCPConn)) })
	}
}

func (c *cable) lead(client *net.TCPConn) {
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

// cut ends each connection with the given probability, with a reset on both sides.
func (c *cable) cut(probability float64) {
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
