package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
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

// RawConn is a database/sql driver's connection with the statements prepared
// on it. It is not safe for concurrent use.
type RawConn struct {
	raw    sqldriver.Conn
	stmts  map[*stmt]sqldriver.Stmt
	spare  *rows       // for the next query
	lifted *shells     // the last that sent a statement
	dirty  atomic.Bool // stale has some
	mu     sync.Mutex  // guards stale
	stale  []*stmt     // closed by their users since the last statement

	watch    watcher // of the statements, or nil
	dialects driver.Dialect
}

// watcher sees each statement before and after it is executed.
type watcher interface {
	// before returns an error where the statement must not be sent.
	before(ctx context.Context, query string) error
	// after returns the error to report of the statement, which is done.
	after(ctx context.Context, err error) error
}

// NewRawConn wraps a driver's connection to a database that reads SQL in one of
// the dialects.
func NewRawConn(c sqldriver.Conn, dialects driver.Dialect) *RawConn {
	return &RawConn{raw: c, dialects: dialects}
}

// expect is called before a statement is sent.
func (c *RawConn) expect(ctx context.Context, query string) error {
	if c.watch == nil {
		return nil
	}
	return c.watch.before(ctx, query)
}

// reads reports whether the database reads SQL in one of the dialects, or may
// do so. A setting tells PostgreSQL's two from each other; they differ only in
// texts that are rare enough to ask for it.
func (c *RawConn) reads(ctx context.Context, in driver.Dialect) bool {
	in &= c.dialects
	const both = driver.PostgreSQL | driver.PostgreSQLEscapes
	if c.dialects != both || in == 0 || in == both {
		return in != 0
	}
	rows, err := c.query(ctx, "SHOW standard_conforming_strings", nil)
	if err != nil {
		return true
	}
	value := make([]sqldriver.Value, 1)
	if err := errors.Join(rows.Next(value), rows.Close()); err != nil {
		return true
	}
	switch value[0] {
	case "on":
		return in == driver.PostgreSQL
	case "off":
		return in == driver.PostgreSQLEscapes
	}
	return true
}

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
