package pgxscope

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pgerror"
)

// Commit implements [driver.Conn]. Only what the server answers counts: pgx
// may call a COMMIT that went out "not sent".
func (c *conn) Commit(ctx context.Context) (driver.Outcome, error) {
	if err := c.Ended(); err != nil {
		return driver.Unknown, err
	}
	defer c.over()
	if c.last == nil {
		begun := c.begun()
		if c.wire.take(); !begun {
			return driver.Committed, nil // of nothing
		}
	}
	switch {
	case c.IsClosed():
		return driver.RolledBack, errors.New("the connection was lost before COMMIT was sent")
	case ctx.Err() != nil:
		return driver.RolledBack, fmt.Errorf("COMMIT was not sent: %w", context.Cause(ctx))
	case c.PgConn().TxStatus() == 'I' && c.begun():
		return driver.Unknown, driver.ErrEnded
	}
	if o, over, err := c.runLast(ctx, commitText); over {
		return o, err
	}
	c.wire.unconfirmed = false
	tag, err := c.end(ctx, commitText)
	var refused *pgconn.PgError
	switch {
	case err == nil && tag.String() == "COMMIT":
		return c.committed()
	case err == nil:
		return driver.RolledBack, pgx.ErrTxCommitRollback
	case errors.As(err, &refused) && pgerror.EndedUncommitted(refused.Routine),
		refused != nil && c.PgConn().TxStatus() == 'I' && !c.IsClosed() && refused.Code != "40003":
		return driver.RolledBack, err
	default:
		return driver.Unknown, err
	}
}

// committed is the outcome of a COMMIT that the server has done.
func (c *conn) committed() (driver.Outcome, error) {
	if c.wire.unconfirmed {
		return driver.Unknown, driver.ErrUnconfirmed
	}
	return driver.Committed, nil
}

// CommitWithQueries implements [driver.CommitQuerier], in one simple query. What became
// of the transaction is what the answer to its second statement says.
func (c *conn) CommitWithQueries(ctx context.Context, before, after string) (o driver.Outcome, was, is []string, err error) {
	if c.Ended() != nil || c.IsClosed() || ctx.Err() != nil || c.last == nil && (!c.begun() || c.PgConn().TxStatus() != 'T') {
		o, err = c.Commit(ctx)
		return o, nil, []string{}, err // where it is committed, it is of nothing
	}
	defer c.over()
	text := before + "; commit; " + after
	if c.last == nil {
		c.wire.take()
	} else if o, over, err := c.runLast(ctx, text); over {
		return o, nil, nil, err
	}
	c.wire.unconfirmed = false
	c.wire.behind.own = true
	defer c.bound(ctx)()
	results, err := c.PgConn().Exec(context.WithoutCancel(ctx), text).ReadAll()
	c.wire.behind.ownOver(c.PgConn().TxStatus())
	var refused *pgconn.PgError
	switch said := len(results) > 1 && results[1].Err == nil; {
	case said && results[1].CommandTag.String() == "COMMIT":
		failed := err != nil || len(results) < 3
		if o, err = c.committed(); err != nil || failed {
			return o, nil, nil, err
		}
		return o, texts(results[0].Rows), texts(results[2].Rows), nil
	case said:
		return driver.RolledBack, nil, nil, pgx.ErrTxCommitRollback
	case errors.As(err, &refused) && pgerror.EndedUncommitted(refused.Routine):
		return driver.RolledBack, nil, nil, err
	case refused == nil || c.IsClosed() || refused.Code == "40003":
		return driver.Unknown, nil, nil, late(ctx, err)
	case c.PgConn().TxStatus() == 'E': // the first query failed
		if undo := c.Rollback(ctx); undo != nil {
			c.abandon()
		}
	}
	return driver.RolledBack, nil, nil, err
}

// Rollback implements [driver.Conn]. For a BEGIN that was not sent nothing is.
func (c *conn) Rollback(ctx context.Context) error {
	if err := c.Ended(); err != nil {
		return err
	}
	defer c.over()
	begun := c.begun()
	c.wire.take()
	if !begun {
		return nil
	}
	_, err := c.end(ctx, rollbackText)
	return err
}

// over notes that there is no transaction any more, where the server says so:
// outside of units statements without one may follow on the same connection.
func (c *conn) over() {
	if c.PgConn().TxStatus() == 'I' {
		c.begin = ""
	}
}

// end runs a statement whose context ends only by its deadline: the network
// connection keeps that, without the goroutine that pgx starts otherwise.
func (c *conn) end(ctx context.Context, text string) (pgconn.CommandTag, error) {
	defer c.bound(ctx)()
	tag, err := c.finish(ctx, text)
	return tag, late(ctx, c.Explain(err))
}

// bound makes the network connection keep ctx's deadline until the function is
// called.
func (c *conn) bound(ctx context.Context) func() {
	deadline, ok := ctx.Deadline()
	if !ok {
		return func() {}
	}
	network := c.PgConn().Conn()
	_ = network.SetDeadline(deadline)
	return func() { _ = network.SetDeadline(time.Time{}) }
}

func late(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

func savepoint(name string) string { return "savepoint " + name }

// Savepoint implements [driver.Conn]: it rides with the next statement.
func (c *conn) Savepoint(_ context.Context, name string) error {
	c.wire.add(ahead{text: savepoint(name)})
	return nil
}

// RollbackTo implements [driver.Conn].
func (c *conn) RollbackTo(ctx context.Context, name string) error {
	if c.wire.drop(savepoint(name)) || c.Ended() != nil {
		return nil // it was never sent, or the end of the transaction tells
	}
	_, err := c.end(ctx, "rollback to savepoint "+name)
	return err
}

// ReleaseSavepoint implements [driver.Conn].
func (c *conn) ReleaseSavepoint(ctx context.Context, name string) error {
	if c.wire.drop(savepoint(name)) || c.Ended() != nil {
		return nil // as above
	}
	_, err := c.end(ctx, "release savepoint "+name)
	return err
}
