// Package load sends requests to a service and takes the time of each. It
// speaks as little HTTP as will do, since it runs on the machine that it loads.
package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/dbscope/dbscope/bench/service/subject"
)

// client is one connection to the service.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	begin   []byte // of a request, up to its id
	request []byte
	base    int // the first id of its own
	next    int
}

const idsOfOneClient = 8

func dial(addr, work string, number int) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	// Rows are the client's own, so that no request waits for a lock.
	base := number * subject.Width * idsOfOneClient % (subject.Rows - subject.Width*idsOfOneClient)
	begin := fmt.Appendf(nil, "%s /%s/", subject.Method(work), work)
	return &client{conn: conn, in: bufio.NewReader(conn), begin: begin, base: base}, nil
}

var (
	endGet     = []byte(" HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n\r\n")
	endPost    = []byte(" HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nContent-Length: 0\r\n\r\n")
	statusOK   = []byte("HTTP/1.1 200 ")
	lengthName = []byte("Content-Length: ")
)

// do sends one request and reads its response.
func (c *client) do() error {
	c.request = append(c.request[:0], c.begin...)
	c.request = strconv.AppendInt(c.request, int64(c.base+c.next*subject.Width), 10)
	c.next = (c.next + 1) % idsOfOneClient
	end := endGet
	if c.begin[0] == 'P' {
		end = endPost
	}
	c.request = append(c.request, end...)
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	return c.answer()
}

func (c *client) answer() error {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	var refused []byte
	if !bytes.HasPrefix(line, statusOK) {
		refused = bytes.Clone(line)
	}
	length := -1
	for {
		line, err = c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if bytes.HasPrefix(line, lengthName) {
			if length, err = strconv.Atoi(string(line[len(lengthName):])); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("load: a response without Content-Length")
	}
	if refused != nil {
		body := make([]byte, min(length, 4096))
		_, _ = c.in.Read(body) // for the message
		return fmt.Errorf("load: the service answers %s%s", refused, body)
	}
	_, err = c.in.Discard(length)
	return err
}
