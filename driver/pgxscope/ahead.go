package pgxscope

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/dbscope/dbscope/driver"
)

// ahead is a statement that goes in front of the next one: BEGIN, SAVEPOINT, or the
// transaction's settings, whose names and values are its parameters.
type ahead struct {
	text     string
	settings []driver.Setting
}

// settingsAhead is one statement for all of them, which the server makes in their order.
func settingsAhead(settings []driver.Setting) ahead {
	return ahead{text: settingsText(len(settings)), settings: settings}
}

// usual are the texts for the numbers of settings that are likely.
var usual = [...]string{1: makeText(1), 2: makeText(2), 3: makeText(3), 4: makeText(4)}

func settingsText(n int) string {
	if n < len(usual) {
		return usual[n]
	}
	return makeText(n)
}

func makeText(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(", pg_catalog.set_config($" + strconv.Itoa(2*i+1) + ", $" + strconv.Itoa(2*i+2) + ", true)")
	}
	return "select" + b.String()[1:]
}

// answers are the messages with which the server answers it.
func (s ahead) answers() string {
	if s.settings != nil || s.text == showIsolation {
		return answersOfRow
	}
	return answersOfOne
}

// encode adds the messages of the statement, without a Sync.
func (s ahead) encode(buf []byte) []byte {
	// Encode fails only when a message is too large.
	buf, _ = (&pgproto3.Parse{Query: s.text}).Encode(buf)
	if s.settings == nil {
		buf, _ = (&pgproto3.Bind{}).Encode(buf)
	} else {
		buf = encodeBind(buf, s.settings)
	}
	buf, _ = (&pgproto3.Execute{}).Encode(buf)
	return buf
}

// encodeBind adds the Bind of settings, as pgproto3 would if it took strings: the
// unnamed portal and statement, all parameters and results as text.
func encodeBind(buf []byte, settings []driver.Setting) []byte {
	buf = append(buf, 'B')
	start := len(buf)
	buf = append(buf, 0, 0, 0, 0, 0, 0, 0, 0)
	buf = binary.BigEndian.AppendUint16(buf, uint16(2*len(settings)))
	for _, s := range settings {
		buf = appendText(appendText(buf, s.Name), s.Value)
	}
	buf = append(buf, 0, 0)
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start))
	return buf
}

func appendText(buf []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(text))), text...)
}

// flush sends what is to go ahead in a round trip of its own: the last of it, with the
// rest in front, or, where nothing may be in front, one after the other.
func (c *conn) flush(ctx context.Context) error {
	first := 0
	if !c.separate {
		first = max(0, c.wire.waiting()-1)
	}
	for _, s := range c.wire.takeFrom(first) {
		c.wire.behind.own = true
		err := c.send(ctx, s)
		c.wire.behind.ownOver(c.PgConn().TxStatus())
		if err != nil {
			return c.Explain(err)
		}
	}
	return nil
}

// send runs a statement that was to go ahead.
func (c *conn) send(ctx context.Context, s ahead) error {
	if s.settings == nil {
		_, err := c.Exec(ctx, s.text)
		return err
	}
	var values [][]byte
	for _, set := range s.settings {
		values = append(values, []byte(set.Name), []byte(set.Value))
	}
	return c.PgConn().ExecParams(ctx, s.text, values, nil, nil, nil).Read().Err
}

// CanSet implements [driver.Setter].
func (c *conn) CanSet() error { return nil }

// Set implements [driver.Setter]: the settings ride with the next statement, behind
// BEGIN.
func (c *conn) Set(_ context.Context, settings []driver.Setting) error {
	c.wire.add(settingsAhead(settings))
	return nil
}
