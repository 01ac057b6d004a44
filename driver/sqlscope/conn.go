package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// conn implements [driver.Conn] on a driver's connection. The core never uses
// it from two goroutines at once.
type conn struct {
	*RawConn
	engine  *engine
	pooled  *sql.Conn // nil for a transaction that other code has begun
	asks    asker     // database/sql's end of the connection
	dialect dialect
	tx      sqldriver.Tx
	cancel  context.CancelCauseFunc // of the context the driver's transaction lives under
	ended   *endedError             // where a statement has ended the transaction, or may have
	yielded bool                    // the pool has it back already: it executes the one statement
	lost    bool                    // nothing can be sent any more: Release closes the connection
	witness witness
}

// asker is a *sql.Conn or a *sql.Tx.
type asker interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// SQL implements [Conn].
func (c *conn) SQL(context.Context) (*RawConn, error) {
	if err := c.refuse(); err != nil {
		return nil, err
	}
	return c.RawConn, nil
}

// Dialect implements [driver.Dialecter].
func (c *conn) Dialect() driver.Dialect { return c.dialect.reads() }

// Begin starts the transaction under a context of its own: drivers keep the
// one they get for the transaction's life, and some end it with the context.
func (c *conn) Begin(ctx context.Context, opts driver.TxOptions) error {
	if c.lost {
		return errGone
	}
	txCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	tx, err := c.begin(txCtx, opts)
	if !stop() { // what the driver says of its own context is not the caller's
		err = fmt.Errorf("the caller's context is done: %w", context.Cause(ctx))
	}
	if err != nil {
		cancel(nil)
		return hide(err)
	}
	c.tx, c.cancel, c.witness = tx, cancel, witness{}
	if opts.Deferrable {
		if err := c.run(ctx, "SET TRANSACTION DEFERRABLE"); err != nil {
			return errs.Joined(err, c.Rollback(ctx))
		}
	}
	return nil
}

func (c *conn) begin(ctx context.Context, opts driver.TxOptions) (sqldriver.Tx, error) {
	if err := c.lateError(); err != nil {
		return nil, err
	}
	if opts.Deferrable && c.dialect != postgres {
		return nil, errors.New("the database has no deferrable transactions")
	}
	if b, ok := c.raw.(sqldriver.ConnBeginTx); ok {
		return b.BeginTx(ctx, sqldriver.TxOptions{Isolation: sqldriver.IsolationLevel(opts.Isolation), ReadOnly: opts.ReadOnly})
	}
	if opts.TxOptions != (sql.TxOptions{}) {
		return nil, errors.New("the driver supports neither isolation levels nor read-only transactions")
	}
	return c.raw.Begin() //nolint:staticcheck // all an old driver has
}

func (c *conn) Commit(ctx context.Context) (driver.Outcome, error) {
	if err := c.lateError(); err != nil {
		return driver.RolledBack, err
	}
	if err := c.Ended(); err != nil {
		return driver.Unknown, err // as a whole: what came before it is stored
	}
	defer c.limit(ctx)()
	if err := c.ready(""); err != nil {
		undone := c.Rollback(ctx)
		c.lost = undone != nil // closing the connection undoes it too
		return driver.RolledBack, fmt.Errorf("COMMIT was not sent: %w", errs.Joined(err, undone))
	}
	usable := c.usable()
	err := hide(c.endTx(ctx, "COMMIT", sqldriver.Tx.Commit))
	switch {
	case err == nil:
		return driver.Committed, nil
	case !usable && errors.As(err, new(LostError)):
		c.lost = true
		return driver.RolledBack, fmt.Errorf("COMMIT was not sent: %w", err)
	}
	o := c.dialect.afterCommit(ctx, c, err)
	if o == driver.Unknown && c.dialect == sqlite { // which writes in a transaction that was begun read-only
		err = fmt.Errorf("%w: %w", driver.ErrEnded, err)
	}
	return o, err
}

func (c *conn) Rollback(ctx context.Context) error {
	if err := c.lateError(); err != nil {
		return err
	}
	if err := c.Ended(); err != nil {
		return err
	}
	defer c.limit(ctx)()
	c.readyToUndo()
	return hide(c.endTx(ctx, "ROLLBACK", sqldriver.Tx.Rollback))
}

// endTx ends the driver's transaction, whose methods take no context: see
// limit. The driver of MariaDB and MySQL has forgotten the one that Begin passed, and
// would wait for ever: there it is done by a statement.
func (c *conn) endTx(ctx context.Context, statement string, end func(sqldriver.Tx) error) error {
	tx := c.tx
	c.tx = nil
	if c.dialect.ofMySQL() {
		return c.run(ctx, statement)
	}
	return end(tx)
}

// limit makes the end of ctx cancel the context that Begin passed to the driver,
// for calls that take none. It is over when stop is called.
func (c *conn) limit(ctx context.Context) (stop func() bool) {
	cancel := func() { c.cancel(context.Cause(ctx)) }
	if own, is := ctx.(interface{ AfterFunc(func()) func() bool }); is { // without a context more
		return own.AfterFunc(cancel)
	}
	return context.AfterFunc(ctx, cancel)
}

// admit says whether a statement of the core's own can be sent.
func (c *conn) admit(ctx context.Context) error {
	if err := c.refuse(); err != nil {
		return err
	}
	return c.readyIn(ctx)
}

// readyIn is ready within the time of ctx.
func (c *conn) readyIn(ctx context.Context) error {
	if c.dirty.Load() {
		defer c.limit(ctx)()
	}
	return c.ready("")
}

// undoIn is readyToUndo within the time of ctx.
func (c *conn) undoIn(ctx context.Context) {
	if c.dirty.Load() || c.copying != nil {
		defer c.limit(ctx)()
	}
	c.readyToUndo()
}

func (c *conn) Savepoint(ctx context.Context, name string) error {
	if err := c.admit(ctx); err != nil {
		return err
	}
	return c.run(ctx, "SAVEPOINT "+name)
}

func (c *conn) RollbackTo(ctx context.Context, name string) error {
	if _ = c.Ended(); c.ended != nil {
		return nil // the end of the transaction tells
	}
	c.undoIn(ctx)
	return c.run(ctx, "ROLLBACK TO SAVEPOINT "+name)
}

func (c *conn) ReleaseSavepoint(ctx context.Context, name string) error {
	if _ = c.Ended(); c.ended != nil {
		return nil // as above
	}
	if err := c.readyIn(ctx); err != nil {
		return err
	}
	return c.run(ctx, "RELEASE SAVEPOINT "+name)
}

// run executes a statement without arguments.
func (c *conn) run(ctx context.Context, query string) error {
	if err := c.lateError(); err != nil {
		return err
	}
	_, err := c.exec(ctx, query, nil)
	if errors.Is(err, sqldriver.ErrSkip) {
		var s sqldriver.Stmt
		if s, err = prepare(ctx, c.raw, query); err == nil {
			_, err = execStmt(ctx, s, nil)
			err = errs.Joined(err, s.Close())
		}
	}
	return hide(err)
}

// FirstRow goes through the pool's own end of the connection, which knows how to
// turn what the driver returns into text.
func (c *conn) FirstRow(ctx context.Context, statement string) (row []string, err error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	return c.row(ctx, statement)
}

func (c *conn) row(ctx context.Context, statement string) (row []string, err error) {
	rows, err := c.asks.QueryContext(ctx, statement)
	if err != nil {
		return nil, hide(err)
	}
	defer func() { err = hide(errs.Joined(err, rows.Close())) }()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errs.Joined(err, rows.Err())
	}
	values := make([]sql.NullString, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	for _, v := range values {
		row = append(row, v.String)
	}
	return row, nil
}

// alive reports whether the connection still answers.
func (c *conn) alive(ctx context.Context) bool {
	if v, ok := c.raw.(sqldriver.Validator); ok && !v.IsValid() {
		return false
	}
	if p, ok := c.raw.(sqldriver.Pinger); ok {
		return p.Ping(ctx) == nil
	}
	return c.run(ctx, "SELECT 1") == nil
}

func (c *conn) Check(ctx context.Context, err error) driver.Fate {
	lost := errors.As(err, new(LostError))
	switch {
	case c.late != nil:
		return driver.Lost
	case c.yielded && !lost && !anyFailure(err, func(f failure) bool { return endsConnection(f.state) }):
		return driver.Intact
	case c.yielded:
		c.engine.distrust()
		return driver.Lost
	case c.ended != nil:
		return driver.Intact // every statement to come, and the end, tells of it
	case lost && c.tx != nil:
		return driver.Lost
	case c.copying != nil && !anyFailure(err, func(f failure) bool { return f.state != "" }):
		return driver.Lost // half a row may have been sent, and nothing can be asked beside a COPY
	case c.tx != nil:
		return c.dialect.afterError(ctx, c, err)
	case !lost && c.alive(ctx):
		return driver.Intact
	}
	c.engine.distrust()
	return driver.Lost
}

// yield gives the connection back before the statement it was taken for, which the
// pool executes by itself.
func (c *conn) yield() {
	if !c.yielded {
		c.yielded = true
		_ = c.pooled.Close() // it only ever fails as closed already
	}
}

func (c *conn) Release(reuse bool) {
	if c.yielded {
		return
	}
	if c.late == nil {
		c.release(reuse)
		return
	}
	if c.cancel != nil {
		c.cancel(nil) // some drivers then end what they still read
	}
	go func() {
		<-c.late
		c.release(false)
	}()
}

func (c *conn) release(reuse bool) {
	// SQLite keeps a closed connection, and its locks, while it has statements.
	reuse = c.CloseStatements() == nil && reuse && !c.lost && c.ended == nil
	if c.cancel != nil {
		c.cancel(nil)
	}
	if !reuse {
		// This error makes the pool close the connection.
		_ = c.pooled.Raw(func(any) error { return sqldriver.ErrBadConn })
	}
	_ = c.pooled.Close() // it only ever fails as closed already
}
