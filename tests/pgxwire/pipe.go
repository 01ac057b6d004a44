package pgxwire

import (
	"io"
	"net"
	"sync"
	"time"
)

// pipe is one direction of a connection. Writing never waits, and who reads gets
// at most one piece at a time.
type pipe struct {
	mu     sync.Mutex
	grown  *sync.Cond
	bytes  []byte
	ends   []int // of the pieces in bytes
	cuts   func() int
	closed bool
}

func newPipe(cuts func() int) *pipe {
	p := &pipe{cuts: cuts}
	p.grown = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	end := len(p.bytes) + len(b)
	at := len(p.bytes)
	for p.bytes = append(p.bytes, b...); at < end; {
		at = min(end, at+max(1, p.cuts()))
		p.ends = append(p.ends, at)
	}
	p.grown.Broadcast()
	return len(b), nil
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.bytes) == 0 {
		if p.closed {
			return 0, io.EOF
		}
		p.grown.Wait()
	}
	n := copy(b, p.bytes[:p.ends[0]])
	p.bytes = p.bytes[n:]
	for i := range p.ends {
		p.ends[i] -= n
	}
	if p.ends[0] == 0 {
		p.ends = p.ends[1:]
	}
	return n, nil
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.grown.Broadcast()
}

// end is one end of a connection in memory.
type end struct{ in, out *pipe }

// connect returns both ends of a connection. What the server sends is cut.
func connect(cuts func() int) (client, server end) {
	whole := func() int { return 1 << 20 }
	up, down := newPipe(whole), newPipe(cuts)
	return end{in: down, out: up}, end{in: up, out: down}
}

func (e end) Read(b []byte) (int, error)  { return e.in.Read(b) }
func (e end) Write(b []byte) (int, error) { return e.out.Write(b) }

// Close lets the other end read what was written.
func (e end) Close() error {
	e.in.close()
	e.out.close()
	return nil
}

// SetDeadline closes the connection where the time is over, which is how pgx
// ends what waits for too long.
func (e end) SetDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		return e.Close()
	}
	return nil
}

func (e end) SetReadDeadline(t time.Time) error { return e.SetDeadline(t) }
func (end) SetWriteDeadline(time.Time) error    { return nil }
func (end) LocalAddr() net.Addr                 { return address{} }
func (end) RemoteAddr() net.Addr                { return address{} }

type address struct{}

func (address) Network() string { return "memory" }
func (address) String() string  { return "memory" }
