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
	st.last.Store(c)
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
	st.last.CompareAndSwap(c, nil)
	return raw.Close()
}

// LostError stands for driver.ErrBadConn, which database/sql must not see: it
// would run the statement again on another connection, outside the
// transaction. [errors.Is] and [errors.As] find whatever else the driver's
// error wraps.
type LostError struct{ cause error }

func (e LostError) Error() string {
	return "the connection to the database was lost: " + e.cause.Error()
}

// Is implements the interface of [errors.Is].
func (e LostError) Is(target error) bool {
	return target != sqldriver.ErrBadConn && errors.Is(e.cause, target)
}

// As implements the interface of [errors.As].
func (e LostError) As(target any) bool { return errors.As(e.cause, target) }

func hide(err error) error {
	if errors.Is(err, sqldriver.ErrBadConn) {
		return LostError{err}
	}
	return err
}

// unsent is the error of a statement that was not sent, which only the core has
// to know: its user gets the error inside.
type unsent struct{ error }

// Is implements the interface of [errors.Is].
func (unsent) Is(target error) bool { return target == driver.ErrNotSent }

// Unwrap implements the interface of [errors.Unwrap].
func (e unsent) Unwrap() error { return e.error }

// joined is errors.Join that keeps a lone error as it is: code that looks at its
// type finds what it would find without dbscope.
func joined(err, another error) error {
	switch {
	case err == nil:
		return another
	case another == nil:
		return err
	}
	return errors.Join(err, another)
}
