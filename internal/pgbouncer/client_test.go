package pgbouncer_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// client is a connection that lasts, which psql's do not. It speaks as much of
// the protocol as these tests need.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func connect(t *testing.T, dsn string) *client {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c := &client{conn, bufio.NewReader(conn)}
	const version = "\x00\x03\x00\x00" // 3.0
	startup := version + "user\x00" + u.User.Username() + "\x00database\x00" + strings.TrimPrefix(u.Path, "/") + "\x00\x00"
	if err := c.send("", startup); err != nil {
		t.Fatal(err)
	}
	if _, err := c.receive(); err != nil {
		t.Fatal(err)
	}
	return c
}

// query returns the first column of the last row of a simple query.
func (c *client) query(t *testing.T, statements string) string {
	t.Helper()
	value, err := c.try(statements)
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	return value
}

// try is query for goroutines, which must not end the test.
func (c *client) try(statements string) (string, error) {
	if err := c.send("Q", statements+"\x00"); err != nil {
		return "", err
	}
	return c.receive()
}

func (c *client) send(kind, body string) error {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))
	_, err := io.WriteString(c.conn, kind+string(length)+body)
	return err
}

// receive reads until the server is ready for the next query.
func (c *client) receive() (value string, failed error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return "", err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return "", err
		}
		switch head[0] {
		case 'D': // two bytes count the columns, four are the length of the first
			value = string(body[6:][:binary.BigEndian.Uint32(body[2:])])
		case 'E':
			failed = fmt.Errorf("the server says %q", body)
		case 'Z':
			return value, failed
		}
	}
}

// listens tells whether somebody accepts connections at the DSN's host.
func listens(t *testing.T, dsn string) bool {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
