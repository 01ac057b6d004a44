package pgxscope

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// expected is what happens with something that the server sends, or that pgx
// waits for, next. The wire has a queue of them; while it is empty, everything
// passes on to pgx.
//
//	do       what arrives                               pgx gets
//	takeOut  the answers to a statement of this         nothing; but an error, which is
//	         package's: messages of these kinds         the answer to pgx's own as well
//	takeEnd  the answers to a COMMIT or ROLLBACK that   nothing; but an error, after which
//	         pgx has had a made-up answer to            the connection is not used any more
//	makeUp   nothing                                    these bytes, at once
//
// A message that the server may send at any time passes on, wherever it arrives.
type expected struct {
	do    action
	kinds string // of the messages that are still to come, in their order
	bytes []byte
	shows bool // the row tells the isolation level
}

// answersOfEnd are those to COMMIT and ROLLBACK: CommandComplete, ReadyForQuery.
const answersOfEnd = "CZ"

// answersOfOne are those to Parse, Bind and Execute of a statement without rows:
// ParseComplete, BindComplete, CommandComplete. They are compared one by one,
// since a proxy may answer in another order.
const answersOfOne = "12C"

// answersOfRow are those where the statement has one row.
const answersOfRow = "12DC"

type action uint8

const (
	unexpected action = iota
	takeOut
	takeEnd
	passOn
	makeUp
)

// The kinds of messages that are looked at; see "Message Formats" in
// PostgreSQL's manual.
const (
	errorResponse   = 'E'
	notice          = 'N'
	notification    = 'A'
	parameterStatus = 'S'
)

// head returns the first of what is expected.
func (w *wire) head() (next expected, waiting bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.expected) == 0 {
		return expected{}, false
	}
	return w.expected[0], true
}

// arrived says what is to be done with a message of the kind, which is the next
// one, while answers to be taken out are expected.
func (w *wire) arrived(kind byte) action {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch kind {
	case notice, notification, parameterStatus:
		return passOn
	case errorResponse:
		w.refused()
		return passOn
	}
	next := &w.expected[0]
	if kind != next.kinds[0] {
		return unexpected
	}
	if next.kinds = next.kinds[1:]; next.kinds == "" {
		w.behind.begun = w.behind.begun || next.do == takeOut
		w.pop()
	}
	return takeOut
}

// endArrived is arrived for the answers to an end that pgx has had a made-up answer
// to. beginning is that of the message.
func (w *wire) endArrived(kind byte, beginning []byte) action {
	switch {
	case kind == errorResponse:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.expected = w.expected[:0]
		if !bytes.Contains(beginning, []byte("\x00VFATAL\x00")) { // else the server closes the connection
			w.failure = errNotEnded // for what comes after this message
		}
		return passOn
	case kind == readyForQuery && beginning[headerSize] != 'I':
		return unexpected
	}
	return w.arrived(kind)
}

var errNotEnded = errors.New("pgxscope: the server has not ended the transaction that was on this connection before, " +
	"which nobody had waited for: the connection cannot be used any more")

// refused drops what the server passes over after it has refused a statement
// that went ahead. A simple query has no Sync at which it would stop. The caller
// holds mu.
func (w *wire) refused() {
	w.expected = w.expected[:0]
	if w.simple {
		if w.followed == sentBehind {
			w.followed, w.sent = passedOver, nil
		}
		_ = w.sync() // where this fails, so does pgx's next read
	}
}

// pop drops the first of what is expected. The caller holds mu.
func (w *wire) pop() { w.expected = append(w.expected[:0], w.expected[1:]...) }

// giveMadeUp gives pgx the answer that no server has sent.
func (w *wire) giveMadeUp(p []byte) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := &w.expected[0]
	n := copy(p, next.bytes)
	if next.bytes = next.bytes[n:]; len(next.bytes) == 0 {
		w.pop()
	}
	return n
}

// place is where the last byte that pgx was given stands in its message.
type place struct {
	header [headerSize]byte
	known  int // bytes of the header that were passed on, until it is whole
	left   int // bytes of the message after it that are still to come
	done   int // bytes of the message that were passed on

	body   [longestTag]byte // the beginning of what follows the header
	bodied int
}

// longestTag is enough to tell "START TRANSACTION" and its end.
const longestTag = 20

// headerSize is that of a message's kind and length.
const headerSize = 5

// messageSize returns the size of the whole message from its header.
func messageSize(header []byte) int { return 1 + int(binary.BigEndian.Uint32(header[1:headerSize])) }

// isBoundary reports whether the next byte begins a message.
func (m *place) isBoundary() bool { return m.known == 0 && m.left == 0 }

// missing returns how many bytes of the message, or at first of its header, are
// still to come.
func (m *place) missing() int {
	if m.left > 0 {
		return m.left
	}
	return headerSize - m.known
}

// advance follows bytes that are passed on, and calls whole after each message.
func (m *place) advance(p []byte, whole func(kind byte, body []byte)) {
	for len(p) > 0 {
		n := min(m.left, len(p))
		if m.left > 0 {
			m.left -= n
			m.bodied += copy(m.body[m.bodied:], p[:n])
		} else {
			n = copy(m.header[m.known:], p)
			m.known += n
			if m.known == headerSize {
				m.known, m.left = 0, max(0, messageSize(m.header[:])-headerSize)
			}
		}
		p = p[n:]
		if m.done += n; m.isBoundary() {
			whole(m.header[0], m.body[:m.bodied])
			m.done, m.bodied = 0, 0
		}
	}
}
