//go:build unix

package pgxscope

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller asks the operating system whether a socket has something to read,
// which an end of the connection is as well. It does not wait for a reader that
// may stand in another goroutine.
type poller struct {
	raw syscall.RawConn
	ask func(fd uintptr)
	fds *[1]unix.PollFd
}

func newPoller(c net.Conn) (p poller, ok bool) {
	system, ok := c.(syscall.Conn)
	if !ok {
		return p, false
	}
	raw, err := system.SyscallConn()
	if err != nil {
		return p, false
	}
	p.raw, p.fds = raw, &[1]unix.PollFd{}
	p.ask = func(fd uintptr) {
		p.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN} //nolint:gosec // descriptors are small
		if _, err := unix.Poll(p.fds[:], 0); err != nil {
			p.fds[0].Revents = 0 // interrupted by a signal: the next statement will see
		}
	}
	return p, true
}

func (p *poller) readable() bool {
	return p.raw.Control(p.ask) == nil && p.fds[0].Revents != 0
}
