package pgxscope

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// tx implements [pgx.Tx] on a session, or on a block nested in it.
type tx struct{ s driver.Session }

// enter admits a statement that consists of the texts.
func (t tx) enter(ctx context.Context, texts ...string) (*conn, error) {
	for _, text := range texts {
		if err := refuseControl(text); err != nil {
			return nil, err
		}
	}
	c, err := t.s.Enter(ctx)
	if err != nil {
		return nil, closed(err)
	}
	if a, is := c.(*adopted); is {
		return a.conn, nil
	}
	return c.(*conn), nil
}

func refuseControl(text string) error {
	word, in := driver.ControlStatement(driver.PostgreSQL|driver.PostgreSQLEscapes, text)
	if in == 0 {
		return nil
	}
	return fmt.Errorf("pgxscope: the statement %s would end the scope's transaction behind its back: "+
		"use the methods of the DB or of its handle: %w", word, dbscope.ErrOpenTransaction)
}

// closed adds pgx's own name for a transaction that is over.
func closed(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("%w: %w", pgx.ErrTxClosed, err)
	}
	return err
}

var errPanicked = errors.New("a statement panicked")

// exit ends a statement; done is false where it panicked, and then nobody
// knows the connection's state.
func (t tx) exit(ctx context.Context, c *conn, done *bool, err *error) {
	if !*done {
		c.abandon()
		_ = t.s.Exit(ctx, errPanicked)
		return
	}
	*err = c.Explain(*err)
	if *err == nil {
		*err = c.Ended()
	}
	if *err == nil && c.begun() && !c.isGone() && c.PgConn().TxStatus() == 'I' {
		*err = errors.New("pgxscope: the statement has ended the scope's transaction behind its back: " +
			"use Commit and Rollback of the DB or of its handle")
	}
	*err = t.s.Exit(ctx, *err)
}

// Begin nests a transaction: a savepoint, which ctx does not govern.
func (t tx) Begin(ctx context.Context) (pgx.Tx, error) {
	s, err := t.s.Begin(context.WithoutCancel(ctx), sql.TxOptions{})
	if err != nil {
		return nil, closed(err)
	}
	return &tx{s}, nil
}

// Commit commits the transaction, or releases the savepoint.
func (t tx) Commit(ctx context.Context) error { return closed(t.s.Commit(ctx)) }

// Rollback undoes the transaction, or goes back to the savepoint.
func (t tx) Rollback(ctx context.Context) error { return closed(t.s.Rollback(ctx)) }

// Exec runs a statement.
func (t tx) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = t.run(ctx, func(ctx context.Context, c *conn) error {
		tag, err = c.Exec(ctx, sql, args...)
		return c.sent(err)
	}, driver.Statement{Text: sql})
	return tag, err
}

// run runs a statement, with the context that its observers have for it.
func (t tx) run(ctx context.Context, call func(context.Context, *conn) error, st driver.Statement) (err error) {
	c, err := t.enter(ctx, st.Text)
	if err != nil {
		return err
	}
	done := false
	defer t.exit(ctx, c, &done, &err)
	ctx = t.observed(ctx, st)
	if err = c.ready(ctx); err == nil {
		err = call(ctx, c)
	}
	done = true
	return err
}

// observed tells those who observe the statement, which was admitted, and returns the
// context to send it with.
func (t tx) observed(ctx context.Context, st driver.Statement) context.Context {
	if o := t.s.Observer(); o != nil {
		return o.Start(ctx, st)
	}
	return ctx
}

// Query runs a query.
func (t tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	raw, c, err := t.query(ctx, sql, args)
	if err != nil {
		return failedRows(err), err
	}
	return newRows(ctx, t, c, raw), nil
}

// query leaves the session admitted, unless it fails.
func (t tx) query(ctx context.Context, sql string, args []any) (raw pgx.Rows, c *conn, err error) {
	if c, err = t.enter(ctx, sql); err != nil {
		return nil, nil, err
	}
	ctx = t.observed(ctx, driver.Statement{Text: sql})
	done := false
	defer func() {
		if !done || err != nil {
			t.exit(ctx, c, &done, &err)
		}
	}()
	if err = c.ready(ctx); err == nil {
		raw, err = c.Query(ctx, sql, args...)
		if ctx.Err() == nil { // else pgx may have sent nothing, as the rows then tell
			err = c.sent(err)
		}
	}
	done = true
	return raw, c, err
}

// QueryRow runs a query for one row.
func (t tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := t.Query(ctx, sql, args...) // the row has the error
	return row{rows}
}

// CopyFrom copies rows into a table.
func (t tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (n int64, err error) {
	err = t.run(ctx, func(ctx context.Context, c *conn) error {
		n, err = c.CopyFrom(ctx, table, columns, src)
		return c.sent(err)
	}, driver.Statement{Text: "copy " + table.Sanitize() + " from stdin binary"})
	return n, err
}

// use calls a function with the connection, for what is no statement.
func (t tx) use(ctx context.Context, call func(*conn) error) (err error) {
	c, err := t.enter(ctx)
	if err != nil {
		return err
	}
	done := false
	defer t.exit(ctx, c, &done, &err)
	if err = c.ready(ctx); err == nil {
		err = call(c)
	}
	done = true
	return err
}

// Prepare prepares a statement on the session's connection.
func (t tx) Prepare(ctx context.Context, name, sql string) (sd *pgconn.StatementDescription, err error) {
	err = t.run(ctx, func(ctx context.Context, c *conn) error {
		if sd, err = c.Prepare(ctx, name, sql); err == nil && name != "" {
			c.prepared = append(c.prepared, name)
		}
		return err
	}, driver.Statement{Text: sql, Prepares: true})
	return sd, err
}

// Conn opens the session and returns its connection, nil where that fails.
// What runs on it directly is in the transaction, and not seen by the scope:
// it must be over before the next statement.
func (t tx) Conn() *pgx.Conn {
	var raw *pgx.Conn
	ctx := context.Background()
	if t.use(ctx, func(c *conn) error { raw, c.lent = c.Conn, true; return c.flush(ctx) }) != nil {
		return nil
	}
	return raw
}

// LargeObjects returns the transaction's large objects. They run on the
// connection directly, as with Conn. Where the transaction has not begun on the
// server that takes a round trip, and where it cannot, the methods of what
// LargeObjects returns panic.
func (t tx) LargeObjects() pgx.LargeObjects {
	var objects pgx.LargeObjects
	ctx := context.Background()
	_ = t.use(ctx, func(c *conn) error {
		c.lent = true
		if err := c.flush(ctx); err != nil {
			return err
		}
		if c.adopted != nil {
			objects = c.adopted.tx.LargeObjects()
			return nil
		}
		// pgx makes them only of a transaction that it has begun itself. It is
		// told that it has: a second BEGIN would be a warning in the server's log.
		c.wire.answerBegin(true)
		defer c.wire.answerBegin(false)
		inner, err := c.Conn.Begin(ctx)
		if err == nil {
			objects = inner.LargeObjects()
		}
		return err
	})
	return objects
}
