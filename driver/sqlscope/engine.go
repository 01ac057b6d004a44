package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
)

// engine implements [driver.Engine] over the user's pool.
type engine struct {
	db      *sql.DB
	dialect atomic.Int32 // a dialect, once known
}

func (e *engine) Close() error { return e.db.Close() }

// Ping is for [Ambient].
func (e *engine) Ping(ctx context.Context) error { return e.db.PingContext(ctx) }

// Acquire checks a connection out, for the session's life, and takes hold of
// the driver's connection under it.
func (e *engine) Acquire(ctx context.Context) (driver.Conn, error) {
	pooled, err := e.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{pooled: pooled}
	if c.dialect, err = e.detect(ctx, pooled); err == nil {
		err = pooled.Raw(func(raw any) error {
			dc, ok := raw.(sqldriver.Conn)
			if !ok {
				return fmt.Errorf("sqlscope: %T is not a driver.Conn", raw)
			}
			c.RawConn = NewRawConn(dc, c.dialect.reads())
			if c.dialect == mariadb {
				c.watch = c
			}
			return nil
		})
	}
	if err != nil {
		return nil, errors.Join(err, pooled.Close())
	}
	return c, nil
}

// detect asks the database what it is, until it has answered once: callers who
// come at the same time ask each for itself, under a context of their own.
func (e *engine) detect(ctx context.Context, c *sql.Conn) (dialect, error) {
	if d := dialect(e.dialect.Load()); d != undetected {
		return d, nil
	}
	d := detect(ctx, c)
	if err := c.PingContext(ctx); err != nil {
		return d, err // no answer is not an answer
	}
	e.dialect.Store(int32(d))
	return d, nil
}

// conn implements [driver.Conn] on a driver's connection. The core never uses
// it from two goroutines at once.
type conn struct {
	*RawConn
	pooled  *sql.Conn
	dialect dialect
	tx      sqldriver.Tx
	cancel  context.CancelCauseFunc // of the context the driver's transaction lives under
	ended   *endedError             // where a statement has ended the transaction, or may have
	witness witness
}

// SQL implements [Conn].
func (c *conn) SQL(context.Context) (*RawConn, error) {
	if err := c.refuse(); err != nil {
		return nil, err
	}
	return c.RawConn, nil
}

// Begin starts the transaction under a context of its own: drivers keep the
// one they get for the transaction's life, and some end it with the context.
func (c *conn) Begin(ctx context.Context, opts driver.TxOptions) error {
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
			return errors.Join(err, c.Rollback(ctx))
		}
	}
	return nil
}

func (c *conn) begin(ctx context.Context, opts driver.TxOptions) (sqldriver.Tx, error) {
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
	if err := c.Ended(); err != nil {
		return driver.Unknown, err // as a whole: what came before it is stored
	}
	err := hide(c.endTx(ctx, "COMMIT", sqldriver.Tx.Commit))
	if err == nil {
		return driver.Committed, nil
	}
	return c.dialect.afterCommit(ctx, c, err), err
}

func (c *conn) Rollback(ctx context.Context) error {
	if err := c.Ended(); err != nil {
		return err
	}
	return hide(c.endTx(ctx, "ROLLBACK", sqldriver.Tx.Rollback))
}

// endTx ends the driver's transaction, whose methods take no context: ctx
// cancels the one that Begin passed. MariaDB's driver has forgotten that one
// and would wait for ever, so there it is done by a statement.
func (c *conn) endTx(ctx context.Context, statement string, end func(sqldriver.Tx) error) error {
	if c.dialect == mariadb {
		c.tx = nil
		return c.run(ctx, statement)
	}
	stop := context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	defer stop()
	err := end(c.tx)
	c.tx = nil
	return err
}

func (c *conn) Savepoint(ctx context.Context, name string) error {
	if err := c.refuse(); err != nil {
		return err
	}
	return c.run(ctx, "SAVEPOINT "+name)
}

func (c *conn) RollbackTo(ctx context.Context, name string) error {
	if _ = c.Ended(); c.ended != nil {
		return nil // the end of the transaction tells
	}
	return c.run(ctx, "ROLLBACK TO SAVEPOINT "+name)
}

func (c *conn) ReleaseSavepoint(ctx context.Context, name string) error {
	if _ = c.Ended(); c.ended != nil {
		return nil // as above
	}
	return c.run(ctx, "RELEASE SAVEPOINT "+name)
}

// run executes a statement without arguments.
func (c *conn) run(ctx context.Context, query string) error {
	_, err := c.exec(ctx, query, nil)
	if errors.Is(err, sqldriver.ErrSkip) {
		var s sqldriver.Stmt
		if s, err = prepare(ctx, c.raw, query); err == nil {
			_, err = execStmt(ctx, s, nil)
			err = errors.Join(err, s.Close())
		}
	}
	return hide(err)
}

// Row goes through the pool's own end of the connection, which knows how to
// turn what the driver returns into text.
func (c *conn) Row(ctx context.Context, statement string) (row []string, err error) {
	if err := c.refuse(); err != nil {
		return nil, err
	}
	return c.row(ctx, statement)
}

func (c *conn) row(ctx context.Context, statement string) (row []string, err error) {
	rows, err := c.pooled.QueryContext(ctx, statement)
	if err != nil {
		return nil, hide(err)
	}
	defer func() { err = hide(errors.Join(err, rows.Close())) }()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errors.Join(err, rows.Err())
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
	switch {
	case c.ended != nil:
		return driver.Intact // every statement to come, and the end, tells of it
	case errors.As(err, new(LostError)):
		return driver.Lost
	case c.tx != nil:
		return c.dialect.afterError(ctx, c, err)
	case c.alive(ctx):
		return driver.Intact
	default:
		return driver.Lost
	}
}

func (c *conn) Release(reuse bool) {
	// SQLite keeps a closed connection, and its locks, while it has statements.
	reuse = c.CloseStatements() == nil && reuse && c.ended == nil
	if c.cancel != nil {
		c.cancel(nil)
	}
	if !reuse {
		// This error makes the pool close the connection.
		_ = c.pooled.Raw(func(any) error { return sqldriver.ErrBadConn })
	}
	_ = c.pooled.Close() // it only ever fails as closed already
}
