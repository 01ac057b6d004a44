package pgxscope_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
)

// gate holds back what the server answers on the connections that pass it.
type gate struct {
	mu     sync.Mutex
	closed bool
	opened *sync.Cond
}

func newGate() *gate {
	g := &gate{}
	g.opened = sync.NewCond(&g.mu)
	return g
}

func (g *gate) set(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
	g.opened.Broadcast()
}

// gatedConn is a connection behind a gate. It keeps deadlines also while that is closed.
type gatedConn struct {
	net.Conn
	gate     *gate
	deadline time.Time // guarded by the gate's mu, as is the next
	gone     bool
}

func (c *gatedConn) Read(b []byte) (int, error) {
	g := c.gate
	g.mu.Lock()
	for g.closed {
		if c.gone {
			g.mu.Unlock()
			return 0, net.ErrClosed
		}
		if !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
			g.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		g.opened.Wait()
	}
	g.mu.Unlock()
	return c.Conn.Read(b)
}

func (c *gatedConn) SetDeadline(t time.Time) error {
	c.gate.mu.Lock()
	c.deadline = t
	c.gate.mu.Unlock()
	if !t.IsZero() {
		time.AfterFunc(time.Until(t)+time.Millisecond, c.gate.opened.Broadcast)
	}
	return c.Conn.SetDeadline(t)
}

func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	c.gone = true
	c.gate.mu.Unlock()
	c.gate.opened.Broadcast()
	return c.Conn.Close()
}

// openGated opens a DB whose answers the gate can hold back.
func openGated(t *testing.T, mode pgx.QueryExecMode, dsn string, opts ...dbscope.DBOption) (*opened, *gate) {
	g := newGate()
	return openPool(t, dsn, dsn, func(config *pgxpool.Config) {
		config.ConnConfig.DefaultQueryExecMode = mode
		config.MaxConns = 1
		dial := (&net.Dialer{}).DialContext
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &gatedConn{Conn: c, gate: g}, nil
		}
	}, opts...), g
}
