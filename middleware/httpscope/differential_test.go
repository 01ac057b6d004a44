package httpscope_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// variants are the middleware as it can be set up. A handler that uses no
// database is to notice none of them.
var variants = map[string]func(http.Handler) http.Handler{
	"default":    httpscope.Middleware(),
	"read-only":  httpscope.Middleware(httpscope.ReadOnlySafeMethods()),
	"no hold":    httpscope.Middleware(httpscope.HoldLimit(0)),
	"small hold": httpscope.Middleware(httpscope.HoldLimit(7)),
	"retry":      httpscope.Middleware(httpscope.Retry(quickly, 1<<20)),
	"two of them": func(h http.Handler) http.Handler {
		return httpscope.Middleware(httpscope.Retry(quickly, 7))(httpscope.Middleware()(h))
	},
}

// ahead are variants that read the body before the handler does.
var ahead = map[string]func(http.Handler) http.Handler{
	"buffered":            httpscope.Middleware(httpscope.BufferBody(1 << 20)),
	"buffered, and retry": httpscope.Middleware(httpscope.BufferBody(1<<20), httpscope.Retry(quickly, 7)),
}

// talk is what a client says to a server, and what is seen of it by the client,
// by the handler, and outside the middleware.
type talk struct {
	*httptest.Server
	t       *testing.T
	http2   bool
	running sync.WaitGroup // requests
	reached chan struct{}  // the handler is where the client waits for it to be

	mu                       sync.Mutex
	client, handler, outside []string
}

func (k *talk) note(seen *[]string, format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*seen = append(*seen, fmt.Sprintf(format, args...))
}

// Handle notes what the handler sees; Saw what the client does.
func (k *talk) Handle(format string, args ...any) { k.note(&k.handler, format, args...) }
func (k *talk) Saw(format string, args ...any)    { k.note(&k.client, format, args...) }

func (k *talk) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fmt.Sprintf("\n  client:  %.700q\n  handler: %.700q\n  outside: %.700q", k.client, k.handler, k.outside)
}

// read notes all that the handler can read.
func (k *talk) read(r io.Reader) {
	body, err := io.ReadAll(r)
	k.Handle("read %d bytes, %.20q, %v", len(body), body, err)
}

// do sends a request, and notes the answer.
func (k *talk) do(method, path string, body io.Reader, headers ...string) {
	r, err := http.NewRequestWithContext(k.t.Context(), method, k.URL+path, body)
	if err != nil {
		k.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	k.send(r)
}

func (k *talk) send(r *http.Request) {
	r.Host = "x" // the server's has a port
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got100Continue: func() { k.Saw("100 Continue") },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code != http.StatusContinue {
				k.Saw("%d %v", code, h)
			}
			return nil
		},
	}))
	resp, err := k.Client().Transport.RoundTrip(r)
	if err != nil {
		k.Saw("no answer")
		return
	}
	var got bytes.Buffer
	_, err = got.ReadFrom(resp.Body)
	_ = resp.Body.Close()
	delete(resp.Header, "Date")
	k.Saw("%d, length %d, close %t, %v, %.300q, cut %t, %v", resp.StatusCode, resp.ContentLength, resp.Close, resp.Header,
		got.String(), err != nil, resp.Trailer)
}

// raw is a connection whose bytes are the test's.
func (k *talk) raw() (net.Conn, *bufio.Reader) {
	conn, err := (&net.Dialer{}).DialContext(k.t.Context(), "tcp", k.Listener.Addr().String())
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		k.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// rawly sends the parts, each when what the one before it waits for has come,
// and notes all that comes back until the server closes the connection.
func (k *talk) rawly(parts ...string) {
	conn, from := k.raw()
	for i := 0; i < len(parts); i += 2 {
		_, _ = io.WriteString(conn, parts[i])
		if i+1 < len(parts) {
			k.await(from, parts[i+1])
		}
	}
	rest, err := io.ReadAll(from)
	lines := slices.DeleteFunc(strings.Split(string(rest), "\r\n"), func(l string) bool { return strings.HasPrefix(l, "Date:") })
	k.Saw("then %q, %v", strings.Join(lines, "|"), err)
}

// ask sends a request, notes the answer, and goes away.
func (k *talk) ask(request, until string) {
	conn, from := k.raw()
	_, _ = io.WriteString(conn, request)
	k.await(from, until)
	_ = conn.Close()
}

// await reads up to the text.
func (k *talk) await(from *bufio.Reader, text string) {
	var got []byte
	for !bytes.HasSuffix(got, []byte(text)) {
		b, err := from.ReadByte()
		if err != nil {
			k.Saw("%q instead of %q: %v", got, text, err)
			return
		}
		got = append(got, b)
	}
	if before, _, found := strings.Cut(string(got), "Date:"); found { // an answer's header
		got = []byte(before)
	}
	k.Saw("%q", got)
}

// converse holds the conversation on a server of its own, and waits until the
// server is done with it.
func converse(t *testing.T, c conversation, http2 bool, wrap func(*talk, http.Handler) http.Handler) *talk {
	k := &talk{t: t, http2: http2, reached: make(chan struct{}, 10)}
	files := t.TempDir()
	t.Setenv("TMPDIR", files)
	h := wrap(k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.handle(k, w, r) }))
	limited := http.MaxBytesHandler(h, 10)
	k.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.running.Add(1)
		defer k.running.Done()
		body := r.Body
		defer k.outsider(w, r, body)
		if r.URL.Path == "/limited" {
			limited.ServeHTTP(w, r)
		} else {
			h.ServeHTTP(w, r)
		}
	}), http2)
	c.say(k)
	k.Close()
	k.running.Wait() // also for what has taken its connection over
	if left, _ := filepath.Glob(filepath.Join(files, "*")); len(left) > 0 {
		k.note(&k.outside, "files are left: %d", len(left))
	}
	return k
}

// outsider is a middleware outside that logs what has become of the request.
func (k *talk) outsider(w http.ResponseWriter, r *http.Request, body io.ReadCloser) {
	var names, files []string
	if r.MultipartForm != nil {
		for name := range r.MultipartForm.File {
			files = append(files, name)
		}
	}
	for name := range w.Header() {
		names = append(names, name)
	}
	slices.Sort(names)
	k.note(&k.outside, "%s %s %s %s %q %q %q %v %v %q %v %t %q %q", r.Method, r.URL, r.Host, r.Header.Get("X-User"), r.Pattern,
		r.PathValue("shop"), r.PathValue("item"), r.Form, r.PostForm, files, len(r.Trailer), r.Body == body, names, r.Header["Expect"])
}

func TestNobodyNoticesTheMiddleware(t *testing.T) {
	conversations := maps.Clone(bodies)
	maps.Copy(conversations, requests)
	for name, c := range conversations {
		for major := 1; major <= 2; major++ {
			if c.only != 0 && c.only != major {
				continue
			}
			t.Run(fmt.Sprintf("%s, HTTP/%d", name, major), func(t *testing.T) {
				want := converse(t, c, major == 2, func(_ *talk, h http.Handler) http.Handler { return h })
				if len(want.handler)+len(want.client) == 0 {
					t.Error("nothing was seen at all")
				}
				for variant, wrap := range variants {
					compare(t, variant, converse(t, c, major == 2, func(_ *talk, h http.Handler) http.Handler { return wrap(h) }), want)
				}
				for variant, wrap := range ahead {
					if !c.unread {
						compare(t, variant, converse(t, c, major == 2, func(_ *talk, h http.Handler) http.Handler { return wrap(h) }), want)
					}
				}
				if !c.once {
					compare(t, "a second attempt", converse(t, c, major == 2, secondAttempt), want)
				}
			})
		}
	}
}

func compare(t *testing.T, variant string, got, want *talk) {
	t.Helper()
	if !reflect.DeepEqual(got.client, want.client) || !reflect.DeepEqual(got.handler, want.handler) || !reflect.DeepEqual(got.outside, want.outside) {
		t.Errorf("%s:%v\nwithout the middleware:%v", variant, got, want)
	}
}

// secondAttempt has the database undo the first attempt at each request. What
// the handler saw in it does not count, and its client and who is outside see
// nothing of it.
func secondAttempt(k *talk, h http.Handler) http.Handler {
	fake := drivertest.NewFake()
	db := fake.DB()
	seen := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
		k.mu.Lock()
		seen = len(k.handler)
		k.mu.Unlock()
		httpscope.Middleware(httpscope.Retry(quickly, 1<<20), httpscope.HoldLimit(1<<20),
			httpscope.CommitWhen(func(*http.Request, int) bool { return true }))(
			http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				k.mu.Lock()
				k.handler = k.handler[:seen]
				k.mu.Unlock()
				if err := drivertest.Exec(context.WithoutCancel(r.Context()), db, "row"); err != nil {
					k.t.Error(err)
				}
				h.ServeHTTP(w, r)
			})).ServeHTTP(w, r)
	})
}
