package pgxscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/dsn"
)

// engine implements [driver.Engine] over the user's pool. Connections are
// taken through stdlib, so that a session's is also a database/sql driver's.
type engine struct {
	pool      *pgxpool.Pool
	connector sqldriver.Connector
	separate  bool // see [SeparateBegin]
	keeps     int  // how many statements a connection may keep
	source    *dsn.Source
	password  string
}

func newEngine(pool *pgxpool.Pool, separate bool) *engine {
	config := pool.Config().ConnConfig
	source := dsn.Read(library, config.ConnString()).With(config.Password)
	keeps := config.StatementCacheCapacity
	if config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		keeps = 0 // what is between here and the server may not keep any
	}
	return &engine{
		keeps: keeps, pool: pool, connector: stdlib.GetPoolConnector(pool), separate: separate, source: source, password: config.Password,
	}
}

// mask takes passwords out of the error of a connection that could not be made.
// Each connection may have one of its own, from the pool's BeforeConnect.
func (e *engine) mask(err error) error {
	failed := (*pgconn.ConnectError)(nil)
	if errors.As(err, &failed) && failed.Config != nil && failed.Config.Password != e.password {
		return e.source.With(failed.Config.Password).Mask(err)
	}
	return e.source.Mask(err)
}

// Acquire replaces connections that the server has ended while they were idle,
// as after a restart: the pool may be full of them.
func (e *engine) Acquire(ctx context.Context) (driver.Conn, error) {
	for ended := 0; ; ended++ {
		c, err := e.take(ctx)
		if err != nil {
			return nil, err
		}
		why := c.Look()
		if why == nil {
			c.fresh = true
			return c, nil
		}
		c.Release(false)
		if ended > e.MaxConns() { // more than were idle
			return nil, fmt.Errorf("the server ends each connection: %w", why)
		}
	}
}

// take takes a connection out of the pool. The first time it is one of database/sql's
// driver, which has no other way to make one; that is kept for whoever asks for it, as
// long as the connection lives.
func (e *engine) take(ctx context.Context) (*conn, error) {
	pooled, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, e.mask(err)
	}
	if w := wireOf(pooled.Conn()); w.raw != nil {
		return e.conn(w, pooled), nil
	}
	pooled.Release()
	raw, err := e.connector.Connect(ctx)
	if err != nil {
		return nil, e.mask(err)
	}
	w := wireOf(raw.(*stdlib.Conn).Conn())
	w.raw = raw.(*stdlib.Conn)
	return e.conn(w, nil), nil
}

func (e *engine) conn(w *wire, pooled *pgxpool.Conn) *conn {
	w.forget()
	return &conn{Conn: w.raw.Conn(), raw: w.raw, pooled: pooled, wire: w, separate: e.separate || w.in == nil, keeps: e.keeps}
}

// wireOf returns the connection's wire, an empty one where [Configure] was not called.
func wireOf(c *pgx.Conn) *wire {
	data := c.PgConn().CustomData()
	w, _ := data[wireKey].(*wire)
	if w == nil {
		w = &wire{}
		data[wireKey] = w
	}
	return w
}

// MaxConns implements [driver.Limited].
func (e *engine) MaxConns() int { return int(e.pool.Stat().MaxConns()) }

// Ping is for [sqlscope.Ambient].
func (e *engine) Ping(ctx context.Context) error { return e.mask(e.pool.Ping(ctx)) }

func (e *engine) Close() error {
	e.pool.Close()
	return nil
}
