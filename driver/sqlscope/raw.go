package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
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

// Explainer is a [Conn] that may know more of an error than its driver says.
type Explainer interface {
	// Explain returns the error, which is not nil, with what it means.
	Explain(err error) error
}

// RawConn is a database/sql driver's connection with the statements prepared
// on it. It is not safe for concurrent use.
type RawConn struct {
	raw     sqldriver.Conn
	spare   *rows           // for the next query
	of      Conn            // that it belongs to, once a statement was admitted
	late    <-chan struct{} // closed when the driver has closed rows for which there was no more time; else nil
	copying *stmt           // a COPY that has not ended: the connection takes nothing else
	dirty   atomic.Bool     // stale has some

	mu    sync.Mutex // guards these, which users change when they close statements
	stmts map[*stmt]sqldriver.Stmt
	stale []*stmt // closed by their users, but not on the connection yet

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
	c.mu.Lock()
	open := slices.Collect(maps.Keys(c.stmts))
	c.mu.Unlock()
	var failures []error
	for _, st := range open {
		failures = append(failures, c.forget(st))
	}
	return errors.Join(failures...)
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
	c.mu.Lock()
	raw, ok := c.stmts[st]
	c.mu.Unlock()
	switch {
	case ok:
		return raw, nil
	case c.copying != nil:
		return nil, errCopying // another one with the same text
	}
	raw, err := prepare(ctx, c.raw, st.query)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.stmts == nil {
		c.stmts = map[*stmt]sqldriver.Stmt{}
	}
	c.stmts[st] = raw
	c.mu.Unlock()
	st.last.Store(c)
	if isCopy(st.query, raw) {
		c.copying = st
	}
	return raw, nil
}

// isCopy knows the statements that lib/pq does not prepare: it sends them at
// once, and the rows as their arguments, until they are executed without any or
// closed.
func isCopy(query string, prepared sqldriver.Stmt) bool {
	return prepared.NumInput() < 0 && copyText.MatchString(query)
}

var copyText = regexp.MustCompile(`(?is)^(?:\s|--.*?\n|/\*.*?\*/)*COPY`)

// errCopying refuses what the server would take for rows of a COPY.
var errCopying = fmt.Errorf("sqlscope: a COPY is still open: end it first, by Exec without arguments or by Close: %w",
	errors.Join(dbscope.ErrSessionBusy, driver.ErrNotSent))

// ready makes the connection ready for a statement. It closes the statements
// that their users have closed: an error there may be the failure of a COPY,
// which was not known before.
func (c *RawConn) ready(query string) error {
	if err := c.sweep(); err != nil {
		return err
	}
	if c.copying != nil && c.copying.query != query {
		return errCopying
	}
	return nil
}

// readyToUndo is ready for what undoes whatever the statements did, their
// failures included.
func (c *RawConn) readyToUndo() {
	_ = c.sweep()
	if c.copying != nil {
		_ = c.forget(c.copying)
	}
}

// retire puts a statement on the list of those to close. It reports false where
// the connection has closed it.
func (c *RawConn) retire(st *stmt) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.stmts[st]; !open {
		return false
	}
	c.stale = append(c.stale, st)
	c.dirty.Store(true)
	return true
}

// sweep closes the statements that their users have closed.
func (c *RawConn) sweep() error {
	if !c.dirty.Load() {
		return nil
	}
	c.mu.Lock()
	stale := c.stale
	c.stale = nil
	c.dirty.Store(false)
	c.mu.Unlock()
	var failures []error
	for _, st := range stale {
		failures = append(failures, c.forget(st))
	}
	return errs.Joined(failures...)
}

func (c *RawConn) forget(st *stmt) error {
	c.mu.Lock()
	raw, ok := c.stmts[st]
	delete(c.stmts, st)
	c.mu.Unlock()
	if c.copying == st {
		c.copying = nil
	}
	if !ok {
		return nil
	}
	st.last.CompareAndSwap(c, nil)
	return hide(raw.Close())
}

// closeRows closes rows of the driver, whose Close takes no context. Where that
// does not return before ctx ends, the connection is lost: nobody but the driver
// uses it from then on, until late is closed.
func (c *RawConn) closeRows(ctx context.Context, raw sqldriver.Rows) error {
	read := func() error { return hide(raw.Close()) }
	if bound, is := c.of.(Bounded); is {
		return bound.Within(ctx, read)
	}
	closed := make(chan struct{})
	var err error = LostError{errors.New("closing rows panicked")}
	go func() {
		defer close(closed)
		defer func() {
			if p := recover(); p != nil {
				err = LostError{fmt.Errorf("closing rows panicked: %v", p)}
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
	return LostError{errors.New("its driver could not close rows in time that were left open")}
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
