package bench

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/dbscope/dbscope/middleware/httpscope"
)

// BenchmarkRequestThatTouchesNoDatabase compares a handler with and without
// the middleware, over real connections: the time is mostly the network's, the
// difference in allocations is the middleware's.
func BenchmarkRequestThatTouchesNoDatabase(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = contentType
		_, _ = w.Write(hello)
	})
	compare(b, client(b, handler), client(b, httpscope.Middleware()(handler)))
}

// The same without a server: what the middleware itself takes.
func BenchmarkMiddlewareThatTouchesNoDatabase(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(hello) })
	request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", http.NoBody)
	w := discard{http.Header{}}
	scoped := httpscope.Middleware()(handler)
	compare(b, func() { handler.ServeHTTP(w, request) }, func() { scoped.ServeHTTP(w, request) })
}

var (
	hello       = []byte("hello")
	contentType = []string{"text/plain"}
)

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// client returns a request on a connection of its own that allocates nothing.
func client(b *testing.B, h http.Handler) func() {
	server := httptest.NewServer(h)
	b.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	must(b, err)
	b.Cleanup(func() { must(b, conn.Close()) })
	request := fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
	r := bufio.NewReader(conn)
	return func() {
		_, err := conn.Write(request)
		must(b, err)
		for {
			line, err := r.ReadSlice('\n')
			must(b, err)
			if len(line) == 2 { // the end of the headers
				break
			}
		}
		_, err = r.Discard(len(hello))
		must(b, err)
	}
}
