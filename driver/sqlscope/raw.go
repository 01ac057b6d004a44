package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
)

// Conn is a connection on which [Ambient] can run statements. Writers of other
// adapters implement it.
type Conn interface {
	driver.Conn
	// SQL returns the connection as database/sql's drivers see it, ready for a
	// statement: its transaction has begun. The same each time.
	SQL(ctx context.Context) (*RawConn, error)
}

// Bounded is a [Conn] whose network connection can keep a deadline. For others the
// rows that a unit leaves open are closed in a goroutine, and where that takes too
// long the connection is kept until the driver returns.
type Bounded interface {
	// Within calls read, which reads from the connection, and makes it return
	// before ctx ends, by its deadline. The connection is closed where it must.
	Within(ctx context.Context, read func() error) error
}

// RawConn is a database/sql driver's connection with the statements prepared
// on it. It is not safe for concurrent use.
type RawConn struct {
	raw    sqldriver.Conn
	stmts  map[*stmt]sqldriver.Stmt
	spare  *rows           // for the next query
	bound  Bounded         // the connection under it, where it is one
	late   <-chan struct{} // closed when the driver has closed rows for which there was no more time; else nil
	lifted *shells         // the last that sent a statement
	dirty  atomic.Bool     // stale has some
	mu     sync.Mutex      // guards stale
	stale  []*stmt         // closed by their users since the last statement

	// after, where it is not nil, looks at a statement that is done, and at its
	// error, and returns the error to report.
	after func(ctx context.Context, query string, err error) error
	held  string // a query that after has not seen yet
}

// NewRawConn wraps a driver's connection.
func NewRawConn(c sqldriver.Conn) *RawConn { return &RawConn{raw: c} }

// CloseStatements closes the statements prepared on the connection. It is to
// be called before the connection goes back to its pool.
func (c *RawConn) CloseStatements() error {
	var errs []error
	for s := range c.stmts {
		errs = append(errs, c.forget(s))
	}
	return errors.Join(errs...)
}

func (c *RawConn) exec(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	if x, ok := c.raw.(sqldriver.ExecerContext); ok {
		return x.ExecContext(ctx, query, args)
	}
	return nil, sqldriver.ErrSkip
}

func (c *RawConn) query(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	if q, ok := c.raw.(sqldriver.QueryerContext); ok {
		return q.QueryContext(ctx, query, args)
	}
	return nil, sqldriver.ErrSkip
}

// prepared returns the connection's own statement for st.
func (c *RawConn) prepared(ctx context.Context, st *stmt) (sqldriver.Stmt, error) {
	if raw, ok := c.stmts[st]; ok {
		return raw, nil
	}
	raw, err := prepare(ctx, c.raw, st.query)
	if err != nil {
		return nil, err
	}
	if c.stmts == nil {
		c.stmts = map[*stmt]sqldriver.Stmt{}
	}
	c.stmts[st] = raw
	st.last = c
	return raw, nil
}

// sweep closes the statements whose users have closed them.
func (c *RawConn) sweep() {
	c.mu.Lock()
	stale := c.stale
	c.stale = nil
	c.dirty.Store(false)
	c.mu.Unlock()
	for _, st := range stale {
		_ = c.forget(st) // a connection that fails here fails the statement to come
	}
}

func (c *RawConn) forget(st *stmt) error {
	raw, ok := c.stmts[st]
	if !ok {
		return nil
	}
	delete(c.stmts, st)
	return raw.Close()
}

// closeRows closes rows of the driver, whose Close takes no context. Where that
// does not return before ctx ends, the connection is lost: nobody but the driver
// uses it from then on, until late is closed.
func (c *RawConn) closeRows(ctx context.Context, raw sqldriver.Rows) error {
	read := func() error { return hide(raw.Close()) }
	if c.bound != nil {
		return c.bound.Within(ctx, read)
	}
	closed := make(chan struct{})
	var err error = LostError{"closing rows panicked"}
	go func() {
		defer close(closed)
		defer func() {
			if p := recover(); p != nil {
				err = LostError{fmt.Sprintf("closing rows panicked: %v", p)}
			}
		}()
		err = read()
	}()
	select {
	case <-closed:
		return err
	case <-ctx.Done():
		c.late = closed
		return c.lateError()
	}
}

// lateError is the answer to all that would use a connection that was lost so.
func (c *RawConn) lateError() error {
	if c.late == nil {
		return nil
	}
	return LostError{"its driver could not close rows in time that were left open"}
}

// LostError stands for driver.ErrBadConn, which database/sql must not see: it
// would run the statement again on another connection, outside the
// transaction.
type LostError struct{ cause string }

func (e LostError) Error() string { return "the connection to the database was lost: " + e.cause }

func hide(err error) error {
	if errors.Is(err, sqldriver.ErrBadConn) {
		return LostError{err.Error()}
	}
	return err
}
