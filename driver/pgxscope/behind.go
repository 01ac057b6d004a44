package pgxscope

import (
	"bytes"
	"fmt"

	"github.com/dbscope/dbscope/driver"
)

// behind finds out, from what the server answers, whether a statement has ended
// the transaction behind dbscope's back: one that ran on the connection itself,
// or whose text did not show it. What cannot be found is ROLLBACK AND CHAIN,
// whose answers are those of ROLLBACK TO.
type behind struct {
	begun    bool   // BEGIN was answered, and no end of dbscope's own
	own      bool   // what is answered is a statement of dbscope's own
	followed bool   // as is what comes after the end of this answer
	nested   bool   // the server has warned that the next BEGIN changes nothing
	by       string // the command that has ended the transaction, or ""
	mayWrite bool   // a command was run with which one that was begun read-only may write
	sets     bool   // a setting was made, which may be the default isolation level
}

// The kinds of messages, and the warning, that tell of a transaction.
const (
	commandComplete   = 'C'
	readyForQuery     = 'Z'
	dataRow           = 'D'
	activeTransaction = "25001"
)

// arrived looks at a message that pgx gets.
func (b *behind) arrived(kind byte, body []byte) {
	if b.followed && kind == readyForQuery {
		b.followed = false
		defer func() { b.own = true }()
	}
	b.sets = b.sets || kind == commandComplete && sets(body)
	if !b.begun || b.own {
		return
	}
	switch kind {
	case commandComplete:
		tag, _, _ := bytes.Cut(body, []byte{0})
		b.mayWrite = b.mayWrite || !harmless(tag)
		switch string(tag) {
		case "COMMIT", "PREPARE TRANSACTION":
			b.by = string(tag)
		case "BEGIN", "START TRANSACTION":
			if !b.nested {
				b.by = string(tag)
			}
			b.nested = false
		}
	case readyForQuery:
		if b.by == "" && len(body) == 1 && body[0] == 'I' {
			b.by = "that came last"
		}
	}
}

// ownOver is called when a statement of dbscope's own was answered. It leaves the
// transaction in the state that the server has told.
func (b *behind) ownOver(status byte) { b.own, b.followed, b.begun = false, false, status != 'I' }

// Ended implements [driver.Ender].
func (c *conn) Ended() error {
	if a := c.adopted; a != nil && (a.ended != nil || a.gone()) {
		return a.ended // the wire may be somebody else's
	}
	if c.wire.behind.by == "" {
		return nil
	}
	err := fmt.Errorf("pgxscope: the statement %s: %w: use Commit and Rollback of the DB or of its handle",
		c.wire.behind.by, driver.ErrEnded)
	if c.adopted != nil {
		c.adopted.ended = err
	}
	return err
}
