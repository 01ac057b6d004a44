package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/dsn"
	"github.com/dbscope/dbscope/internal/errs"
)

// engine implements [driver.Engine] over the user's pool.
type engine struct {
	db       *sql.DB
	source   *dsn.Source
	dialect  atomic.Int32 // a dialect, once known
	manual   atomic.Bool  // autocommit of MariaDB or MySQL is off on new connections
	over     func()       // called once the pool is closed
	suspects atomic.Int64 // how many of the pool's idle connections are not to be trusted

	statements statements // executed outside of scopes
}

func (e *engine) Close() error {
	e.over()
	return e.source.Mask(e.db.Close())
}

// MaxConns implements [driver.Limited].
func (e *engine) MaxConns() int { return e.db.Stats().MaxOpenConnections }

// Ping is for [Ambient].
func (e *engine) Ping(ctx context.Context) error { return e.source.Mask(e.db.PingContext(ctx)) }

// Acquire checks a connection out, for the session's life. One that the pool
// has kept may be dead, which is found out when it is used.
func (e *engine) Acquire(ctx context.Context) (driver.Conn, error) {
	for {
		pooled, err := e.db.Conn(ctx)
		if err != nil {
			return nil, hide(e.source.Mask(err))
		}
		suspected := e.suspects.Load() > 0 && e.suspects.Add(-1) >= 0
		if suspected {
			err = pooled.PingContext(ctx)
		}
		var c *conn
		if err == nil {
			c, err = e.open(ctx, pooled)
		}
		if err == nil {
			return c, nil
		}
		err = errs.Joined(err, ignoreClosed(pooled.Close()))
		if ctx.Err() != nil || !dead(err) || !suspected && !e.distrust() {
			return nil, hide(e.source.Mask(err))
		}
	}
}

// distrust has the pool's idle connections asked before they are used: one was
// dead, and the server may have ended them all. It reports false where there are
// none.
func (e *engine) distrust() bool {
	idle := int64(e.db.Stats().Idle)
	e.suspects.Store(idle)
	return idle > 0
}

// dead reports whether database/sql has closed a connection for an error.
func dead(err error) bool {
	return errors.Is(err, sqldriver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

// ignoreClosed leaves out the error of a connection that is closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

// open takes hold of the driver's connection under the pool's.
func (e *engine) open(ctx context.Context, pooled *sql.Conn) (*conn, error) {
	d, err := e.detect(ctx, pooled)
	if err != nil {
		return nil, err
	}
	c := &conn{engine: e, pooled: pooled, asks: pooled, dialect: d}
	return c, pooled.Raw(func(raw any) error {
		dc, ok := raw.(sqldriver.Conn)
		if !ok {
			return fmt.Errorf("sqlscope: %T is not a driver.Conn", raw)
		}
		c.RawConn = NewRawConn(dc, d.reads())
		if c.dialect.ofMySQL() {
			c.watch = c
		}
		return nil
	})
}

// detect asks the database what it is, until it has answered once: callers who
// come at the same time ask each for itself, under a context of their own.
func (e *engine) detect(ctx context.Context, c *sql.Conn) (dialect, error) {
	if d := dialect(e.dialect.Load()); d != undetected {
		return d, nil
	}
	d, why := detect(ctx, c)
	if d == undetected {
		return d, why
	}
	if err := c.PingContext(ctx); err != nil {
		return d, errs.Joined(why, err) // no answer is not an answer
	}
	e.manual.Store(d.ofMySQL() && !autocommits(ctx, c))
	e.dialect.Store(int32(d))
	return d, nil
}
