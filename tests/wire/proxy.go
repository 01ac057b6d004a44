package wire

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy passes on connections to one server. Its methods are safe for
// concurrent use, except those that say so.
type Proxy struct {
	t        testing.TB
	server   string
	listener net.Listener
	trips    atomic.Int64
	delay    atomic.Int64
	faults   faults
	log      log
	running  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	opened int
	open   map[*connection]struct{}
}

// Start starts a proxy for the server at an address of the form host:port. It
// lives until the test ends, with all its connections; a test that failed then
// shows the last messages.
func Start(t testing.TB, serverAddr string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, server: serverAddr, listener: listener, open: map[*connection]struct{}{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		p.CloseAll()
		p.running.Wait()
		if t.Failed() {
			p.log.show(t)
		}
	})
	return p
}

// Addr is where the proxy listens, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// DSN is a postgres:// URL with its host and port replaced by the proxy's. It
// ends the test where dsn is not such a URL, so it belongs to the test's goroutine.
func (p *Proxy) DSN(dsn string) string {
	p.t.Helper()
	u, err := url.Parse(dsn)
	if err == nil && u.Scheme != "postgres" && u.Scheme != "postgresql" {
		err = errors.New("wire: only a postgres:// URL can be led through the proxy")
	}
	if err != nil {
		p.t.Fatal(err)
	}
	u.Host = p.Addr()
	return u.String()
}

// RoundTrips says how often clients have waited for the network since the start
// or the last [Proxy.Reset]: how many times one or several messages went to the
// server and an answer came back that the client had asked for, with Query,
// Sync, Flush or FunctionCall. It holds for each connection from its first
// ReadyForQuery, and is up to date when the client has the answer.
//
// Messages that the proxy has read before it forwards an answer cannot depend on
// that answer, and belong to the same turn. So it does not matter how many
// messages, Syncs or TCP segments a client sends before it waits; but where a
// client asks in one segment and, without waiting, in a later one again, the
// server may be faster than the client, and only a [Proxy.Delay] longer than
// the client's pause makes the count certain. The data of a COPY counts as sent
// with the Query that announces it, as pgx sends it; a client that waits for
// CopyInResponse waits once more than is counted. A cancel request, which is a
// connection of its own, is not counted.
func (p *Proxy) RoundTrips() int { return int(p.trips.Load()) }

// Cuts says how many connections a [CutAt] has ended since the start or the
// last [Proxy.Reset].
func (p *Proxy) Cuts() int { return int(p.faults.made.Load()) }

// Reset sets the counts to zero and empties the log. What [Proxy.Cut] and
// [Proxy.Delay] said goes on.
func (p *Proxy) Reset() {
	p.trips.Store(0)
	p.faults.made.Store(0)
	p.log.reset()
}

// Messages returns the last messages that passed, oldest first, such as
// "> Parse begin" for what a client sent and "< ReadyForQuery T" for what it was
// sent, in the order in which the client sees them. Bind, Describe and Execute
// show the statement they are about. Lines of the second and later connections
// begin with their number, such as "[2] ". A cut is a line of its own, in place
// of the message: "! cut during > Query commit".
func (p *Proxy) Messages() []string { return p.log.lines() }

// Delay adds d to each round trip, half of it each way, from now on. Order and
// throughput stay. It does not slow down the TCP handshake.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// due is the moment at which something that was read now may go out.
func (p *Proxy) due() time.Time {
	if d := p.delay.Load(); d > 0 {
		return time.Now().Add(time.Duration(d / 2))
	}
	return time.Time{}
}

// CloseAll cuts every connection at once, on both sides, with a reset. What is
// under way is lost, or not. It returns when the connections are gone.
func (p *Proxy) CloseAll() {
	p.mu.Lock()
	all := make([]*connection, 0, len(p.open))
	for c := range p.open {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		c.kill()
	}
	for _, c := range all {
		<-c.gone
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // the test is over
		}
		p.running.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	var dialer net.Dialer
	server, err := dialer.DialContext(p.t.Context(), "tcp", p.server)
	if err != nil {
		reset(client)
		return
	}
	c := newConnection(p, client, server.(*net.TCPConn))
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		reset(client)
		reset(c.server)
		return
	}
	p.opened++
	c.number = p.opened
	p.open[c] = struct{}{}
	p.mu.Unlock()

	c.run()

	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	close(c.gone)
}
