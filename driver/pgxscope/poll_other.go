//go:build !unix

package pgxscope

import "net"

// poller cannot look at sockets here.
type poller struct{}

func newPoller(net.Conn) (p poller, ok bool) { return p, false }

func (*poller) readable() bool { return false }
