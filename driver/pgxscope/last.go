package pgxscope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pgerror"
)

// execCommit runs a transaction's last statement.
func (t tx) execCommit(ctx context.Context, sql string, args []any) (tag pgconn.CommandTag, err error) {
	if err := refuseControl(sql); err != nil {
		return tag, err
	}
	if word := strings.TrimLeft(sql, " \t\r\n("); len(word) >= 4 && strings.EqualFold(word[:4], "copy") {
		return tag, fmt.Errorf("pgxscope: COPY cannot be the statement of ExecCommit: use CopyFrom and Commit")
	}
	ran := false
	err = t.s.CommitWith(ctx, func(ctx context.Context, on driver.Conn) error {
		ran = true
		tag, err = on.(*conn).execLast(t.observed(ctx, driver.Statement{Text: sql}), sql, args)
		return err
	})
	if err == nil && !ran {
		err = errors.New("pgxscope: the statement of ExecCommit was not sent")
	}
	return tag, closed(err)
}

// execLast runs a statement whose context ends by its deadline alone.
func (c *conn) execLast(ctx context.Context, sql string, args []any) (tag pgconn.CommandTag, err error) {
	if err = c.ready(ctx); err == nil {
		tag, err = c.Exec(context.WithoutCancel(ctx), sql, args...)
		err = c.sent(err)
	}
	return tag, c.Explain(err)
}

// ExecArgs implements [driver.Execer].
func (c *conn) ExecArgs(ctx context.Context, statement string, args ...any) error {
	_, err := c.execLast(ctx, statement, args)
	return err
}

// CommitBehind implements [driver.LastCommitter].
func (c *conn) CommitBehind(statement func(context.Context) error) { c.last = statement }

// runLast runs the transaction's last statement, where there is one, with the text
// that commits behind it in the same write. Where it succeeds, that text need only be
// sent as ever: the wire knows that it has left, and the answer is read. Where it
// fails, over is set, and the outcome is known.
func (c *conn) runLast(ctx context.Context, text string) (o driver.Outcome, over bool, err error) {
	last := c.last
	if c.last = nil; last == nil {
		return o, false, nil
	}
	defer c.bound(ctx)()
	if !c.separate {
		c.wire.follow(text)
	}
	err = last(ctx)
	left := c.wire.unfollow()
	if err == nil {
		return o, false, nil
	}
	defer func() { c.wire.behind.ownOver(c.PgConn().TxStatus()) }()
	err = late(ctx, err)
	var refused *pgconn.PgError
	switch isRefusal := errors.As(err, &refused); {
	case left == notSent || left == passedOver,
		isRefusal && pgerror.EndedUncommitted(refused.Routine):
		return driver.RolledBack, true, c.undo(ctx, err)
	case !isRefusal || c.IsClosed():
		return driver.Unknown, true, err
	}
	c.wire.forgetSent()
	tag, _ := c.answer()
	if c.IsClosed() || tag.String() != "COMMIT" {
		return driver.RolledBack, true, c.undo(ctx, err)
	}
	return driver.Unknown, true, err // no server commits a transaction whose last statement it has refused
}

// undo makes sure that nothing is left of a transaction whose last statement has
// failed.
func (c *conn) undo(ctx context.Context, err error) error {
	c.wire.take()
	if !c.IsClosed() && c.PgConn().TxStatus() != 'I' {
		if failed := c.Rollback(ctx); failed != nil {
			c.abandon()
		}
	}
	return err
}

// following is what became of a text that was to go behind a statement.
type following uint8

const (
	notSent following = iota
	sentBehind
	passedOver // it was sent, and the server passes over it, with the statement
)

// follow puts a simple query behind the next write with which a statement is executed.
func (w *wire) follow(text string) {
	message := simpleQuery(text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.follower, w.sent, w.followed = message, nil, notSent
}

// unfollow is for when the statement is over.
func (w *wire) unfollow() following {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.follower = nil
	return w.followed
}

// forgetSent is for a text that has left and that pgx is not to send any more.
func (w *wire) forgetSent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = nil
}

// behindWrite returns what is to follow a write. The caller holds mu.
func (w *wire) behindWrite(p []byte) []byte {
	if w.follower == nil || !executes(p) {
		return nil
	}
	w.sent, w.follower, w.followed = w.follower, nil, sentBehind
	w.behind.followed = true
	return w.sent
}

// hasLeft reports whether a write is of the text that has left already, once. The
// caller holds mu.
func (w *wire) hasLeft(p []byte) bool {
	if w.sent == nil || !bytes.Equal(p, w.sent) {
		return false
	}
	w.sent = nil
	return true
}

// executes reports whether one of the messages runs a statement.
func executes(messages []byte) bool {
	for len(messages) >= headerSize {
		if kind := messages[0]; kind == 'E' || kind == 'Q' {
			return true
		}
		messages = messages[min(len(messages), messageSize(messages)):]
	}
	return false
}
