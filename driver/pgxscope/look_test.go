package pgxscope

import (
	"bufio"
	"net"
	"testing"
)

// BenchmarkLook is what it takes to see that a server has not ended a session:
// once when its connection is taken, and once before COMMIT.
func BenchmarkLook(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	network, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = network.Close() }()
	w := &wire{in: bufio.NewReaderSize(network, inputBuffer), socket: newSocket(network)}
	if w.socket == nil {
		b.Skip("sockets cannot be looked at on this system")
	}
	b.ReportAllocs()
	for b.Loop() {
		if arrived, err := w.messageArrived(); arrived || err != nil {
			b.Fatal(arrived, err)
		}
	}
}
