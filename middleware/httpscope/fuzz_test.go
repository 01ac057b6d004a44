package httpscope_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// program is what a handler does, step by step, read from bytes.
type program struct {
	bytes []byte
	saw   []string // what the handler sees of each step
	did   map[string]bool
}

func (p *program) next(below int) int {
	if len(p.bytes) == 0 {
		return 0
	}
	b := p.bytes[0]
	p.bytes = p.bytes[1:]
	return int(b) % below
}

func (p *program) see(format string, args ...any) {
	p.saw = append(p.saw, fmt.Sprintf(format, args...))
}

var (
	fuzzKeys     = []string{"X-A", "X-B", "Content-Type", "Trailer", http.TrailerPrefix + "X-T", "X-Sum", "Content-Length", "Connection", "Etag", "Vary"}
	fuzzValues   = []string{"1", "", "X-Sum", "X-Sum, X-A", "text/html", "close", "5", "700", "100000", "keep-alive"}
	fuzzStatuses = []int{200, 201, 204, 206, 302, 304, 400, 404, 409, 500, 503, 100, 102, 103, 299, 418}
	fuzzSizes    = []int{0, 1, 3, 7, 8, 500, 511, 513, 2047, 2049, 5000, 66_000}
)

// run does the steps. It leaves by a panic where the program says so.
func (p *program) run(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	for range 20 {
		if len(p.bytes) == 0 {
			return
		}
		step := p.next(20)
		// The server throws the rest of the body away once the answer leaves, which
		// is later where it is held.
		if reads := step >= 11 && step <= 14; reads && p.did["answer"] {
			continue
		}
		p.did["answer"] = p.did["answer"] || step >= 3 && step <= 10 || step == 14 || step == 17
		switch step {
		case 0:
			w.Header().Set(fuzzKeys[p.next(len(fuzzKeys))], fuzzValues[p.next(len(fuzzValues))])
		case 1:
			w.Header().Add(fuzzKeys[p.next(len(fuzzKeys))], fuzzValues[p.next(len(fuzzValues))])
		case 2:
			w.Header().Del(fuzzKeys[p.next(len(fuzzKeys))])
		case 3:
			w.WriteHeader(fuzzStatuses[p.next(len(fuzzStatuses))])
		case 4, 5:
			n, err := w.Write(p.text())
			p.see("Write %d %v", n, err)
		case 6:
			text := string(p.text())
			n, err := io.WriteString(w, text)
			p.see("WriteString %d %v", n, err)
		case 7:
			p.did["copy"] = true
			n, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(p.text())})
			p.see("ReadFrom %d %v", n, err)
		case 8:
			p.did["copy"] = true
			n, err := io.Copy(w, bytes.NewReader(p.text()))
			p.see("WriteTo %d %v", n, err)
		case 9, 10:
			p.did["flush"] = true
			p.see("Flush %v", control.Flush())
		case 11:
			n, err := io.ReadFull(r.Body, make([]byte, p.next(12)))
			p.see("read %d %v", n, err)
		case 12:
			body, err := io.ReadAll(r.Body)
			p.see("read %d %v", len(body), err)
		case 13:
			p.see("close %v", r.Body.Close())
		case 14:
			body, err := io.ReadAll(r.Body)
			n, failed := w.Write(body)
			p.see("echo %d %v %v", n, err, failed)
		case 15:
			p.see("deadlines %v", errors.Join(control.SetReadDeadline(time.Now().Add(time.Hour)), control.SetWriteDeadline(time.Now().Add(time.Hour))))
		case 16:
			p.see("duplex %v", control.EnableFullDuplex())
		case 17:
			http.Error(w, "no", fuzzStatuses[p.next(11)])
		case 18:
			if p.next(4) == 0 {
				p.did["panic"] = true
				panic(http.ErrAbortHandler)
			}
		case 19:
			if p.next(4) == 0 {
				conn, _, err := control.Hijack()
				p.see("Hijack %v", err)
				if err == nil {
					p.did["hijack"] = true
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmine")
					_ = conn.Close()
					return
				}
			}
		}
	}
}

func (p *program) text() []byte {
	return bytes.Repeat([]byte{"<ax\x00"[p.next(4)]}, fuzzSizes[p.next(len(fuzzSizes))])
}

// answer is what a client sees of a handler's response.
type answer struct {
	Interim  []int
	Status   int
	Length   int64
	Close    bool
	Encoding []string
	Header   http.Header
	Body     string
	Trailer  http.Header
	Cut      bool
}

// fuzzServer serves programs. Each connection has one request.
type fuzzServer struct {
	*httptest.Server
	mu      sync.Mutex
	handler http.Handler
	ended   chan struct{}
}

func newFuzzServer(t testing.TB) *fuzzServer {
	s := &fuzzServer{ended: make(chan struct{}, 1)}
	s.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { s.ended <- struct{}{} }()
		s.handler.ServeHTTP(w, r)
	}), false)
	return s
}

// ask sends a request and reads all of the answer.
func (s *fuzzServer) ask(t *testing.T, h http.Handler, method, request string) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
	conn, err := net.Dial("tcp", s.Listener.Addr().String()) //nolint:noctx // it is short
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, request) }()
	var got answer
	from := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			got.Cut = true
			break
		}
		if resp.StatusCode < 200 {
			got.Interim = append(got.Interim, resp.StatusCode)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		delete(resp.Header, "Date")
		got.Status, got.Length, got.Close, got.Encoding = resp.StatusCode, resp.ContentLength, resp.Close, resp.TransferEncoding
		got.Header, got.Body, got.Trailer, got.Cut = resp.Header, string(body), resp.Trailer, err != nil
		break
	}
	<-s.ended
	return got
}

func FuzzWriter(f *testing.F) {
	f.Add([]byte{0, 0, 0}, uint8(0), uint16(0))
	f.Add([]byte{4, 1, 11, 9, 4, 1, 2}, uint8(1), uint16(3))
	f.Add([]byte{0, 3, 2, 3, 0, 6, 1, 5, 0, 5, 0}, uint8(0), uint16(0))           // a declared trailer
	f.Add([]byte{9, 0, 4, 0, 4, 1, 3}, uint8(5), uint16(9))                       // one without declaration, after a flush
	f.Add([]byte{0, 6, 6, 4, 1, 8, 4, 1, 1}, uint8(0), uint16(0))                 // more than was declared
	f.Add([]byte{3, 2, 4, 1, 3, 9}, uint8(2), uint16(0))                          // a body where there is none
	f.Add([]byte{3, 13, 3, 12, 7, 1, 11, 8, 1, 9}, uint8(3), uint16(4000))        // hints, then a large answer
	f.Add([]byte{14, 12, 13, 11, 5}, uint8(7), uint16(60_000))                    // the body comes back
	f.Add([]byte{4, 1, 5, 18, 0}, uint8(0), uint16(0))                            // a panic
	f.Add([]byte{4, 1, 5, 9, 4, 1, 5, 18, 0}, uint8(0), uint16(0))                // after a flush
	f.Add([]byte{19, 0, 4, 1, 1, 9}, uint8(4), uint16(0))                         // a connection that is taken over
	f.Add([]byte{17, 7, 4, 1, 5, 3, 0, 9}, uint8(0), uint16(0))                   // a failure
	f.Add([]byte{15, 16, 11, 3, 9, 12, 4, 1, 2, 0, 7, 5}, uint8(1), uint16(5000)) // full duplex
	f.Add([]byte{0, 6, 0, 9, 7, 0, 2}, uint8(169), uint16(11))                    // a copy of more than was declared
	bare, scoped := newFuzzServer(f), newFuzzServer(f)
	f.Fuzz(func(t *testing.T, steps []byte, how uint8, size uint16) {
		if len(steps) > 100 {
			t.Skip("long programs show nothing more")
		}
		method := []string{"GET", "POST", "HEAD", "PUT"}[how%4]
		// More than the server reads at once would be lost with the answer where nobody
		// reads it and the connection is closed.
		body := strings.Repeat("b", int(size)%3000)
		request := fmt.Sprintf("%s / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
		if how&4 != 0 {
			request = fmt.Sprintf("%s / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", method, max(len(body), 1), body+"b"[min(len(body), 1):])
		}
		if how&8 != 0 {
			request = strings.Replace(request, "Host: x\r\n", "Host: x\r\nConnection: close\r\n", 1)
		}
		opts := []httpscope.Option{
			httpscope.HoldLimit([]int{64 << 10, 0, 7, 3000}[how>>4%4]), httpscope.OnError(func(*http.Request, error) {}),
		}
		if how>>6 == 1 && !slices.Contains(steps, 16) {
			opts = append(opts, httpscope.Retry(quickly, 1<<20))
		}
		if how>>6 == 2 && !slices.Contains(steps, 16) {
			opts = append(opts, httpscope.BufferBody(1<<20))
		}
		without := &program{bytes: steps, did: map[string]bool{}}
		want := bare.ask(t, http.HandlerFunc(without.run), method, request)
		for _, fails := range []bool{false, true} {
			fake := drivertest.NewFake()
			db := fake.DB()
			if fails {
				for range 3 {
					fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
				}
			}
			with := &program{bytes: steps, did: map[string]bool{}}
			got := scoped.ask(t, httpscope.Middleware(opts...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := drivertest.Exec(r.Context(), db, "row"); err != nil {
					t.Error(err)
				}
				with.run(w, r)
			})), method, request)
			if n := fake.Open(); n != 0 {
				t.Errorf("%d connections are not back", n)
			}
			if fails {
				wantNothingOf(t, got, want, with, fake.Rows())
			} else {
				wantSame(t, got, want, with, without, fake.Rows())
			}
		}
	})
}

func wantSame(t *testing.T, got, want answer, with, without *program, rows []string) {
	t.Helper()
	if with.did["panic"] { // what has left by then depends on the server's buffers
		if !got.Cut && !want.Cut && got.Status != want.Status {
			t.Errorf("after a panic the client got %s", describe(got))
		}
		return
	}
	if with.did["copy"] { // the server sends the first part of a copy by itself; what was held it sends at once
		unframed(&got)
		unframed(&want)
	}
	if with.did["copy"] && strings.Contains(strings.Join(with.saw, " "), http.ErrContentLength.Error()) {
		return // which the server's ReadFrom does not look for, and sends what nobody reads
	}
	if with.did["hijack"] && with.did["answer"] { // the server loses what its buffers hold
		got, want = answer{Interim: got.Interim, Status: got.Status}, answer{Interim: want.Interim, Status: want.Status}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the client got\n %s\nwithout the middleware\n %s\n%q", describe(got), describe(want), with.saw)
	}
	if !slices.Equal(with.saw, without.saw) {
		t.Errorf("the handler saw\n %q\nwithout the middleware\n %q", with.saw, without.saw)
	}
	if stored := len(rows) == 1; !with.did["hijack"] && !got.Cut && stored != (got.Status < 400) {
		t.Errorf("the status is %d, and stored is %q", got.Status, rows)
	}
}

// unframed forgets how the answer was framed, and the trailers that only one of the
// ways can carry.
func unframed(a *answer) {
	a.Trailer = nil
	a.Length, a.Encoding = 0, nil
	delete(a.Header, "Content-Length")
}

// wantNothingOf checks the answer where the commit fails.
func wantNothingOf(t *testing.T, got, want answer, with *program, rows []string) {
	t.Helper()
	if len(rows) > 0 {
		t.Errorf("%q is stored", rows)
	}
	if want.Status == 0 && !with.did["panic"] && !with.did["hijack"] {
		return // the handler's headers are such that no client can read the answer
	}
	switch {
	case with.did["hijack"]:
		if 0 < got.Status && got.Status < 400 { // else it was rolled back, which does not fail
			t.Errorf("the connection was taken over: %s", describe(got))
		}
	case with.did["panic"]:
		if got.Status != 0 && got.Status != 500 && got.Status < 400 {
			t.Errorf("after a panic the client got %s", describe(got))
		}
	case want.Status == 0 && got.Status == 0: // with such headers the server answers nothing that can be read
	case want.Status >= 400:
		if got.Status != want.Status && got.Status != 500 {
			t.Errorf("the client got %s, want status %d", describe(got), want.Status)
		}
	case got.Status != 500 || got.Body != page && got.Body != "" || len(got.Trailer) > 0 || leaks(got.Header):
		t.Errorf("the client got %s", describe(got))
	}
}

// leaks reports whether a header is the handler's.
func leaks(h http.Header) bool {
	for key := range h {
		if !slices.Contains([]string{"Content-Type", "Content-Length", "X-Content-Type-Options", "Connection"}, key) {
			return true
		}
	}
	return false
}

func describe(a answer) string {
	if len(a.Body) > 100 {
		a.Body = a.Body[:100] + "... " + strconv.Itoa(len(a.Body))
	}
	return fmt.Sprintf("%+v", a)
}
