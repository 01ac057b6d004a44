package wire

import (
	"errors"
	"net"
	"sync"
	"time"
)

// connection is a client's connection and the one to the server that it goes
// on to. Each direction has a goroutine that reads and one that writes.
type connection struct {
	proxy          *Proxy
	number         int
	client, server *net.TCPConn
	toClient       *pipe
	toServer       *pipe
	killed         chan struct{}
	gone           chan struct{}
	kill           func()

	mu    sync.Mutex
	turns turns
	cut   bool // no message passes any more, in either direction
	fed   bool // the server has been sent all that it will be sent
}

func newConnection(p *Proxy, client, server *net.TCPConn) *connection {
	c := &connection{
		proxy: p, client: client, server: server,
		killed: make(chan struct{}), gone: make(chan struct{}),
	}
	c.toClient, c.toServer = newPipe(client, c.killed), newPipe(server, c.killed)
	c.kill = sync.OnceFunc(func() {
		close(c.killed)
		reset(client)
		reset(server)
	})
	return c
}

// run returns when both sides are closed and nothing of the connection is left.
func (c *connection) run() {
	var all sync.WaitGroup
	all.Go(c.readClient)
	all.Go(c.writeServer)
	all.Go(c.readServer)
	all.Go(c.writeClient)
	all.Wait()
	_ = c.client.Close() // may be closed already
	_ = c.server.Close() // may be closed already
}

func (c *connection) readClient() {
	defer c.toServer.end()
	in := newClientStream(c.client)
	for {
		messages, err := in.read()
		parcel, goOn := c.fromClient(messages)
		c.toServer.put(parcel)
		c.note(err)
		if err != nil || !goOn {
			return
		}
	}
}

// fromClient counts all messages before the first of them goes out, so that no
// answer can come in between.
func (c *connection) fromClient(messages []message) (out parcel, goOn bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out.due = c.proxy.due()
	for _, m := range messages {
		if c.cut {
			return out, false
		}
		if when, found := c.proxy.faults.find(m); found {
			c.cut = true
			c.proxy.log.add(c.number, "! cut "+when.String()+" > ", m)
			if when == After {
				c.turns.sent(m.kind)
			}
			out.data = append(out.data, when.share(m.raw)...)
			return out, false
		}
		c.turns.sent(m.kind)
		c.proxy.log.add(c.number, "> ", m)
		out.data = append(out.data, m.raw...)
	}
	return out, !c.cut
}

func (c *connection) writeServer() {
	for parcel := range c.toServer.parcels() {
		c.toServer.write(parcel)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fed = true
	c.finishServer()
}

// finishServer tells the server that no more will come, once that is so. When
// the connection was cut, the server first answers what it was asked, since it,
// or a pooler in front of it, may give up a statement whose client is gone.
func (c *connection) finishServer() {
	if c.fed && (!c.cut || c.turns.settled()) {
		_ = c.server.CloseWrite() // it may be gone
	}
}

// readServer goes on to the server's end of the connection also after a cut:
// then the server has done all that it was sent, or has rolled it back.
func (c *connection) readServer() {
	defer c.toClient.end()
	in := newServerStream(c.server)
	var rest parcel // of the message at which the connection is cut
	for {
		messages, err := in.read()
		parcel := c.fromServer(messages, &rest)
		c.toClient.put(parcel)
		c.note(err)
		if err != nil {
			rest.due = c.proxy.due()
			c.toClient.put(rest)
			return
		}
	}
}

func (c *connection) fromServer(messages []message, rest *parcel) parcel {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := parcel{due: c.proxy.due()}
	for _, m := range messages {
		turn := c.turns.answered(m.kind)
		if c.cut {
			continue
		}
		when, found := c.proxy.faults.find(m)
		if !found {
			out.add(m, turn)
			continue
		}
		c.cut = true
		c.proxy.log.add(c.number, "! cut "+when.String()+" < ", m)
		rest.data = append(rest.data, when.share(m.raw)...)
		if when == After {
			rest.turn = turn
		}
		_ = c.client.SetReadDeadline(time.Now()) // ends readClient; a closed one has ended
	}
	c.finishServer()
	return out
}

func (c *connection) writeClient() {
	for parcel := range c.toClient.parcels() {
		c.mu.Lock()
		for _, m := range parcel.messages {
			c.proxy.log.add(c.number, "< ", m)
		}
		if c.turns.deliver(parcel.turn) {
			c.proxy.trips.Add(1)
		}
		c.mu.Unlock()
		c.toClient.write(parcel)
	}
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut {
		reset(c.client)
	} else {
		_ = c.client.Close() // may be closed already
	}
}

// note tells the log of an end that nobody would guess.
func (c *connection) note(err error) {
	if errors.Is(err, errNotTheProtocol) {
		c.proxy.log.add(c.number, "! ", message{name: errNotTheProtocol.Error()})
	}
}

// reset closes a connection so that the other side gets a RST, where the
// system can.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // then it is a FIN
	_ = c.Close()      // may be closed already
}
