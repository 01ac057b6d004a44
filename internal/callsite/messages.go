package callsite

import (
	"errors"
	"io"
	"strings"
)

// Messages reads the messages of a stream one after the other, on either side.
type Messages struct {
	Receive func() (string, error) // its error at the end is, or wraps, io.EOF
	OnClose func()
	current *strings.Reader // nil before the first
}

// Read waits for a message where nothing is left of the one before, and where
// nothing is to be read for the first.
func (m *Messages) Read(p []byte) (int, error) {
	for m.current == nil || m.current.Len() == 0 && len(p) > 0 {
		next, err := m.Receive()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		} else if err != nil {
			return 0, err
		}
		m.current = strings.NewReader(next)
	}
	if len(p) == 0 {
		return 0, nil
	}
	return m.current.Read(p)
}

// Close calls OnClose.
func (m *Messages) Close() error {
	m.OnClose()
	return nil
}

// SendAll sends what comes as messages, until an error, also io.EOF.
func SendAll(send func(message string) error, body io.Reader) error {
	part := make([]byte, 1000)
	for {
		n, err := body.Read(part)
		if n > 0 {
			if err := send(string(part[:n])); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}
