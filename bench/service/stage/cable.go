package stage

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// cable leads connections to a server and adds to each round trip, half of it
// each way. Order and throughput stay.
type cable struct {
	server   string
	delay    time.Duration
	listener net.Listener

	mu   sync.Mutex
	ends []net.Conn
}

func layCable(server string, delay time.Duration) (*cable, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cable{server: server, delay: delay, listener: listener}
	go c.accept()
	return c, nil
}

func (c *cable) addr() string { return c.listener.Addr().String() }

// close also closes what leads through it.
func (c *cable) close() error {
	err := c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range c.ends {
		_ = end.Close() // may be closed already
	}
	return err
}

func (c *cable) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", c.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		c.ends = append(c.ends, client, server)
		c.mu.Unlock()
		go c.lead(client, server)
		go c.lead(server, client)
	}
}

type parcel struct {
	due  time.Time
	data []byte
}

// lead brings what comes from one end to the other.
func (c *cable) lead(from, to net.Conn) {
	under := make(chan parcel, 1024)
	go func() {
		sleep := sleeper()
		var failed error
		for p := range under {
			sleep(time.Until(p.due))
			if failed == nil {
				_, failed = to.Write(p.data)
			}
		}
		_ = errors.Join(to.Close(), from.Close()) // one of them may be closed already
	}()
	defer close(under)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			under <- parcel{time.Now().Add(c.delay / 2), append([]byte(nil), buffer[:n]...)}
		}
		if err != nil {
			return
		}
	}
}

// RoundTrip measures how long a round trip over loopback takes to which a
// latency is added.
func RoundTrip(latency time.Duration) (took time.Duration, err error) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, echo.Close()) }()
	go func() {
		conn, err := echo.Accept()
		if err != nil {
			return // closed
		}
		_, _ = io.Copy(conn, conn) // until the other end is closed
		_ = conn.Close()
	}()
	c, err := layCable(echo.Addr().String(), latency)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	conn, err := net.Dial("tcp", c.addr())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var all []time.Duration
	for range 101 {
		start := time.Now()
		if _, err := conn.Write([]byte{1}); err != nil {
			return 0, err
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return 0, err
		}
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}
