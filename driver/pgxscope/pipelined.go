package pgxscope

import (
	"bytes"
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// EndPipelined implements [driver.PipelinedEnder]. pgx, and its pool, get a made-up
// answer at once, so that they find the connection idle. Whatever reads from it next,
// a ping or a hook of the pool too, takes the real one out first.
func (c *conn) EndPipelined(commits bool) bool {
	if !c.mayPipeline(commits) {
		return false
	}
	text := rollbackText
	if commits {
		text = commitText
	}
	c.wire.take()
	c.wire.pipelined(text)
	if _, err := c.finish(context.Background(), text); err != nil {
		c.abandon() // which ends it as well
	}
	c.over()
	return !c.IsClosed()
}

// mayPipeline reports whether the transaction can end without an answer. One that was
// begun read-only may have written where a statement made it do so, which the
// statements' tags tell.
func (c *conn) mayPipeline(commits bool) bool {
	w := c.wire
	if c.separate || c.lent || c.PgConn().IsBusy() || c.IsClosed() || c.Ended() != nil || !c.begun() || !w.place.isBoundary() || !w.quiet() {
		return false
	}
	switch c.PgConn().TxStatus() {
	case 'E':
		return !commits
	case 'T':
		return !commits || !w.behind.mayWrite && !c.mayBeSerializable()
	default:
		return false
	}
}

// mayBeSerializable reports whether the transaction may be refused at COMMIT, since
// its isolation level is the connection's default, which may be any.
func (c *conn) mayBeSerializable() bool {
	return c.opts.Isolation == sql.LevelDefault && c.wire.isolation != "read committed" && c.wire.isolation != "repeatable read"
}

// learnIsolation lets the first transaction of a connection for which that matters
// tell what the default isolation level is. SHOW takes no snapshot, so that the
// transaction's own first statement may still choose another one.
func (c *conn) learnIsolation() {
	if c.opts.ReadOnly && c.opts.Isolation == sql.LevelDefault && c.wire.isolation == "" && !c.separate {
		c.wire.add(ahead{text: showIsolation})
	}
}

const showIsolation = "show transaction_isolation"

// noteIsolation keeps the level from the row that tells it.
func (w *wire) noteIsolation(row []byte) {
	const fields = headerSize + 2 // behind the number of columns
	if value := fields + 4; len(row) >= value {
		w.isolation = string(row[value:])
	}
}

// sets reports whether a command, as its tag begins, may change the default level.
func sets(tag []byte) bool {
	return bytes.HasPrefix(tag, []byte("SET")) || bytes.HasPrefix(tag, []byte("RESET")) || bytes.HasPrefix(tag, []byte("DISCARD"))
}

// forget lets go of what is known of the last transaction, and of what it has changed.
func (w *wire) forget() {
	if w.behind.sets {
		w.isolation = ""
	}
	w.behind = behind{}
}

// harmless are the commands, as their tags begin, that leave a read-only transaction
// one that could not write.
func harmless(tag []byte) bool {
	command, _, _ := bytes.Cut(tag, []byte{' '})
	switch string(command) {
	case "SELECT", "FETCH", "MOVE", "DECLARE", "CLOSE", "SHOW", "EXPLAIN", "COPY", "LOCK", "SAVEPOINT", "RELEASE", "ROLLBACK", "DEALLOCATE", "PREPARE":
		return true
	}
	return false
}

// pipelined lets pgx have the answer to an end that it sends before it comes.
func (w *wire) pipelined(text string) {
	made, real := committedAnswer, expected{do: takeEnd, kinds: answersOfEnd}
	if text == rollbackText {
		made = rolledBackAnswer
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected = append(w.expected, expected{do: makeUp, bytes: made}, real)
}

var (
	committedAnswer  = []byte("C\x00\x00\x00\x0bCOMMIT\x00Z\x00\x00\x00\x05I")
	rolledBackAnswer = []byte("C\x00\x00\x00\x0dROLLBACK\x00Z\x00\x00\x00\x05I")
)

const (
	commitText   = "commit"
	rollbackText = "rollback"
)

var (
	commitQuery   = encodeQuery(commitText)
	rollbackQuery = encodeQuery(rollbackText)
)

// simpleQuery returns the message of a short text, which nobody may change.
func simpleQuery(text string) []byte {
	switch text {
	case commitText:
		return commitQuery
	case rollbackText:
		return rollbackQuery
	}
	return encodeQuery(text)
}

func encodeQuery(text string) []byte {
	message, _ := (&pgproto3.Query{String: text}).Encode(nil) // which fails only where it is too long
	return message
}

// finish runs a statement of dbscope's own that has no rows, without what pgx does
// around each statement, unless somebody traces them.
func (c *conn) finish(ctx context.Context, text string) (tag pgconn.CommandTag, err error) {
	c.wire.behind.own = true
	if c.wire.traced || c.wire.in == nil || c.PgConn().IsBusy() { // of which Exec tells

		tag, err = c.Exec(context.WithoutCancel(ctx), text)
	} else {
		tag, err = c.query(text)
	}
	c.wire.behind.ownOver(c.PgConn().TxStatus())
	return tag, err
}

// query sends a simple query and reads the answer to it.
func (c *conn) query(text string) (tag pgconn.CommandTag, err error) {
	if _, err := c.wire.Write(simpleQuery(text)); err != nil {
		return tag, c.broken(err)
	}
	return c.answer()
}

// answer reads up to the end of the answer to a simple query.
func (c *conn) answer() (tag pgconn.CommandTag, refused error) {
	for {
		message, err := c.PgConn().ReceiveMessage(context.Background())
		if err != nil {
			return tag, c.broken(err)
		}
		switch m := message.(type) {
		case *pgproto3.CommandComplete:
			tag = tagOf(m.CommandTag)
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return tag, refused
		}
	}
}

// tagOf makes a tag, and no text of its own for the usual ones.
func tagOf(tag []byte) pgconn.CommandTag {
	switch string(tag) {
	case "COMMIT":
		return pgconn.NewCommandTag("COMMIT")
	case "ROLLBACK":
		return pgconn.NewCommandTag("ROLLBACK")
	}
	return pgconn.NewCommandTag(string(tag))
}

// broken closes a connection from which no answer came, as pgx does: the server is
// asked to cancel what it still does. Of what pgx offers only a write that fails leads
// there.
func (c *conn) broken(err error) error {
	if !c.IsClosed() {
		_ = c.PgConn().Conn().SetDeadline(time.Unix(1, 0))
		_ = c.PgConn().Exec(context.Background(), "").Close()
	}
	return serverError(err)
}
