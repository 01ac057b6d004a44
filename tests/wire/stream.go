package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
)

const (
	readSize      = 64 << 10
	messageLimit  = 1 << 30 // PostgreSQL's own
	lengthSize    = 4
	kindAndLength = 1 + lengthSize
)

var errNotTheProtocol = errors.New("wire: this is not PostgreSQL's protocol")

// stream cuts what comes from one side into messages.
type stream struct {
	in       io.Reader
	buf      []byte
	used     int // of buf, returned by the last read
	describe func(*message, []byte)
	names    map[byte]string
	refuse   func() error // answers a request for encryption
	starting bool         // messages have no kind yet
}

func newClientStream(client net.Conn) *stream {
	s := &statements{prepared: map[string]string{}, portals: map[string]string{}}
	refuse := func() error {
		_, err := client.Write([]byte{'N'})
		return err
	}
	return &stream{in: client, describe: s.describe, names: clientNames, refuse: refuse, starting: true}
}

func newServerStream(server net.Conn) *stream {
	return &stream{in: server, describe: describeAnswer, names: serverNames}
}

// read blocks until there is a whole message, and returns all that have come.
// They are valid until the next call. Messages may come with an error.
func (s *stream) read() ([]message, error) {
	s.buf = slices.Delete(s.buf, 0, s.used)
	s.used = 0
	for {
		s.buf = slices.Grow(s.buf, readSize)
		n, err := s.in.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		messages, bad := s.split()
		if err = errors.Join(err, bad); err != nil || len(messages) > 0 {
			return messages, err
		}
	}
}

func (s *stream) split() ([]message, error) {
	var messages []message
	for {
		m, err := s.next(s.buf[s.used:])
		if err != nil || m == nil {
			return messages, err
		}
		s.used += len(m.raw)
		if m.name == startNames[sslRequest] || m.name == startNames[gssRequest] {
			if err := s.refuse(); err != nil {
				return messages, err
			}
			continue
		}
		messages = append(messages, *m)
	}
}

// next returns the first message of buf, or nil where it is not all there.
func (s *stream) next(buf []byte) (*message, error) {
	header := kindAndLength
	if s.starting {
		header = lengthSize
	}
	if len(buf) < header {
		return nil, nil
	}
	body := int(binary.BigEndian.Uint32(buf[header-lengthSize:])) - lengthSize
	if body < 0 || body > messageLimit || s.starting && body < lengthSize {
		return nil, errNotTheProtocol
	}
	if len(buf) < header+body {
		return nil, nil
	}
	m := &message{raw: buf[:header+body]}
	if s.starting {
		m.name = startNames[binary.BigEndian.Uint32(buf[header:])]
		if m.name == "" {
			m.name, s.starting = startupMessage, false
		}
		return m, nil
	}
	m.kind = buf[0]
	if m.name = s.names[m.kind]; m.name == "" {
		return nil, errNotTheProtocol
	}
	s.describe(m, m.raw[header:])
	return m, nil
}
