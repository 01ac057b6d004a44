package httpscope_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
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

// a conversation is what a handler and its client do.
type conversation struct {
	handle func(k *talk, w http.ResponseWriter, r *http.Request)
	say    func(k *talk)
	only   int  // the protocol's major version, where it is not for both
	once   bool // there is no second attempt: the response begins while the handler runs, or the body breaks off
}

const chunked = "Host: x\r\nTransfer-Encoding: chunked\r\n"

var conversations = map[string]conversation{
	"a body that is read": {
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			k.Handle("length %d, %v", r.ContentLength, r.TransferEncoding)
			k.read(r.Body)
			n, err := r.Body.Read(make([]byte, 1))
			k.Handle("again: %d, %v", n, err)
			_, _ = io.WriteString(w, "thanks")
		},
		say: func(k *talk) {
			for _, n := range []int{0, 7, 8, 70_000} {
				k.do("POST", "/", strings.NewReader(strings.Repeat("x", n)))
				k.do("POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("x", n))))
			}
		},
	},
	"no body": {
		handle: func(k *talk, _ http.ResponseWriter, r *http.Request) {
			k.Handle("%t, %d", r.Body == http.NoBody, r.ContentLength)
			k.read(r.Body)
		},
		say: func(k *talk) { k.do("GET", "/", http.NoBody); k.do("POST", "/", http.NoBody) },
	},
	"a body that is not read": {
		handle: func(_ *talk, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "no, thanks") },
		say: func(k *talk) {
			for _, n := range []int{1, 8, 5000} {
				k.do("POST", "/", strings.NewReader(strings.Repeat("x", n)))
			}
		},
	},
	"a body that is read in part, and closed": {
		handle: func(k *talk, _ http.ResponseWriter, r *http.Request) {
			k.read(io.LimitReader(r.Body, 5))
			k.Handle("%v", r.Body.Close())
			if !k.http2 { // what HTTP/2 answers depends on how much has come by now
				k.read(r.Body)
			}
			k.Handle("%v", r.Body.Close())
		},
		say: func(k *talk) {
			for _, n := range []int{1, 5, 8, 5000} {
				k.do("POST", "/", strings.NewReader(strings.Repeat("x", n)))
			}
		},
	},
	"a connection after a body that is not read": {
		only:   1,
		handle: func(*talk, http.ResponseWriter, *http.Request) {},
		say: func(k *talk) {
			for _, n := range []int{5, 200_000, 400_000} { // the server reads 256 KiB for the next request's sake
				k.rawly(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", min(n, 200_000))),
					"\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			}
		},
	},
	"requests one upon the other": {
		only: 1,
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			k.read(r.Body)
			_, _ = io.WriteString(w, r.URL.Path)
		},
		say: func(k *talk) {
			k.rawly("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nrow" +
				"POST /2 HTTP/1.1\r\n" + chunked + "\r\n3\r\nrow\r\n0\r\n\r\n" +
				"GET /3 HTTP/1.0\r\nHost: x\r\n\r\n")
		},
	},
	"a body that breaks off": {
		only:   1,
		once:   true,
		handle: func(k *talk, _ http.ResponseWriter, r *http.Request) { k.read(r.Body) },
		say: func(k *talk) {
			for _, request := range []string{
				"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nrow",
				"POST / HTTP/1.1\r\n" + chunked + "\r\n3\r\nrow\r\n",
				"POST / HTTP/1.1\r\n" + chunked + "\r\n3\r\nrow\r\nnonsense\r\n",
			} {
				conn, from := k.raw()
				_, _ = io.WriteString(conn, request)
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, from)
			}
		},
	},
	"100 Continue when the body is read": {
		only: 1,
		once: true, // a second attempt says 102 once more
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusProcessing) // comes first, since nothing reads the body before the handler
			k.read(r.Body)
			_, _ = io.WriteString(w, "thanks")
		},
		say: func(k *talk) {
			for range 2 {
				k.rawly("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
					"100 Continue\r\n\r\n", "row")
				k.rawly("POST / HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\n"+chunked+"\r\n",
					"100 Continue\r\n\r\n", "3\r\nrow\r\n0\r\n\r\n")
			}
		},
	},
	"no 100 Continue when it is not": {
		only: 1,
		handle: func(_ *talk, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no", http.StatusUnauthorized)
		},
		say: func(k *talk) {
			k.ask("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", "no\n")
			k.ask("POST / HTTP/1.1\r\nExpect: 100-continue\r\n"+chunked+"\r\n", "no\n")
			k.ask("POST / HTTP/1.1\r\nHost: x\r\nExpect: something else\r\nContent-Length: 3\r\n\r\nrow", "\r\n\r\n")
		},
	},
	"100 Continue from a client of both protocols": {
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/read" {
				k.read(r.Body)
			} else {
				w.WriteHeader(http.StatusTeapot)
			}
		},
		say: func(k *talk) {
			k.Client().Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			k.do("POST", "/read", strings.NewReader("row"), "Expect", "100-continue")
			k.do("POST", "/read", io.MultiReader(strings.NewReader("row")), "Expect", "100-continue")
			if !k.http2 { // whose client sends the body of its own accord when it is refused
				k.do("POST", "/", strings.NewReader("row"), "Expect", "100-continue")
			}
		},
	},
	"full duplex": {
		once: true,
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			echoes(w, r)
			k.read(r.Body)
		},
		say: func(k *talk) {
			body, send := io.Pipe()
			defer time.AfterFunc(30*time.Second, func() { _ = send.Close() }).Stop()
			r, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, k.URL, body)
			if err != nil {
				k.t.Fatal(err)
			}
			r.Host = "x"
			go func() { _, _ = io.WriteString(send, "one") }()
			resp, err := k.Client().Do(r)
			if err != nil {
				k.Saw("no answer")
				return
			}
			part := make([]byte, 3)
			_, err = io.ReadFull(resp.Body, part)
			k.Saw("%d %s %v", resp.StatusCode, part, err)
			_, _ = io.WriteString(send, "two")
			_, err = io.ReadFull(resp.Body, part)
			k.Saw("%s %v", part, err)
			_ = send.Close()
			rest, err := io.ReadAll(resp.Body)
			k.Saw("%q %v", rest, err)
			_ = resp.Body.Close()
		},
	},
	"a flush before the body is read": {
		once: true,
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "wait")
			w.(http.Flusher).Flush()
			if k.http2 { // HTTP/1 has lost the body, or has it still, as the network will
				k.read(r.Body)
			}
		},
		say: func(k *talk) { k.do("POST", "/", strings.NewReader("row")) },
	},
	"trailers of a request": {
		handle: func(k *talk, _ http.ResponseWriter, r *http.Request) {
			k.read(r.Body)
			k.Handle("after %v", r.Trailer)
		},
		say: func(k *talk) {
			r, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, k.URL, io.MultiReader(strings.NewReader("row")))
			if err != nil {
				k.t.Fatal(err)
			}
			r.Trailer = http.Header{"X-Sum": {"42"}}
			k.send(r)
			if !k.http2 {
				k.rawly("POST / HTTP/1.1\r\nConnection: close\r\n" + chunked + "\r\n3\r\nrow\r\n0\r\nX-Undeclared: 1\r\n\r\n")
			}
		},
	},
	"forms": {
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			k.Handle("%q, %v", r.FormValue("item"), r.ParseForm())
			k.Handle("%v, %v", r.Form, r.PostForm)
		},
		say: func(k *talk) {
			const form = "application/x-www-form-urlencoded"
			k.do("POST", "/?item=2&more=3", strings.NewReader("item=1&item=4"), "Content-Type", form)
			k.do("POST", "/", io.MultiReader(strings.NewReader("item=%zz")), "Content-Type", form)
			k.do("PUT", "/", strings.NewReader("item=1"), "Content-Type", form)
			k.do("GET", "/?item=2", http.NoBody)
		},
	},
	"multipart forms": {
		handle: func(k *talk, _ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/reader" {
				parts, err := r.MultipartReader()
				k.Handle("%v", err)
				for part, err := parts.NextPart(); err == nil; part, err = parts.NextPart() {
					k.Handle("%s %s", part.FormName(), part.FileName())
				}
				k.Handle("%v", r.ParseMultipartForm(1))
				return
			}
			k.Handle("%v", r.ParseMultipartForm(1))
			file, head, err := r.FormFile("file")
			if err != nil {
				k.Handle("%v", err)
				return
			}
			_, onDisk := file.(*os.File)
			k.Handle("%s %d %q on disk %t", head.Filename, head.Size, r.FormValue("item"), onDisk)
			k.read(file)
			_ = file.Close()
		},
		say: func(k *talk) {
			for _, path := range []string{"/", "/reader"} {
				body, contentType := upload(k.t, "tea")
				k.do("POST", path, body, "Content-Type", contentType)
			}
			k.do("POST", "/", strings.NewReader("--x\r\nnonsense"), "Content-Type", "multipart/form-data; boundary=x")
		},
	},
	"path values": {
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /shops/{shop}/", func(_ http.ResponseWriter, r *http.Request) {
				r.SetPathValue("item", "set")
				k.Handle("%s %s", r.Pattern, r.PathValue("shop"))
			})
			mux.ServeHTTP(w, r)
		},
		say: func(k *talk) {
			k.do("GET", "/shops/tea/x", http.NoBody)
			k.do("GET", "/shops/tea", http.NoBody) // is redirected
			k.do("PUT", "/shops/tea/x", http.NoBody)
			k.do("GET", "/none", http.NoBody)
		},
	},
	"what a handler changes in its request": {
		handle: func(_ *talk, _ http.ResponseWriter, r *http.Request) {
			r.Host, r.RemoteAddr, r.Method = "other", "1.2.3.4:5", http.MethodPatch
			r.Header.Set("X-User", "7")
			r.URL.Path = "/other"
			r.Body = io.NopCloser(strings.NewReader("other"))
		},
		say: func(k *talk) { k.do("POST", "/", strings.NewReader("row")) },
	},
	"ranges": {
		handle: func(_ *talk, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"1"`)
			http.ServeContent(w, r, "file.txt", time.Unix(1_000_000_000, 0), strings.NewReader(strings.Repeat("0123456789", 20_000)))
		},
		say: func(k *talk) {
			for _, method := range []string{"GET", "HEAD"} {
				for _, ranged := range []string{"bytes=5-8", "bytes=-5", "bytes=199990-", "bytes=900000-", "nonsense", "bytes=0-150000"} {
					k.do(method, "/", http.NoBody, "Range", ranged)
				}
				k.do(method, "/", http.NoBody, "Range", "bytes=5-8", "If-Range", `"2"`)
				k.do(method, "/", http.NoBody, "If-None-Match", `"1"`)
				k.do(method, "/", http.NoBody, "If-Match", `"2"`)
				k.do(method, "/", http.NoBody, "If-Modified-Since", time.Unix(1_000_000_001, 0).UTC().Format(http.TimeFormat))
			}
		},
	},
	"a limit of the body's size": {
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			body := http.MaxBytesReader(w, r.Body, 5)
			w.Header().Set("Connection", "close") // for HTTP/1 the reader would ask for it, of the server's own writer only
			got, err := io.ReadAll(body)
			k.Handle("%q %v", got, err)
			if err != nil {
				http.Error(w, "too much", http.StatusRequestEntityTooLarge)
			}
		},
		say: func(k *talk) {
			for _, n := range []int{5, 6} {
				k.do("POST", "/", strings.NewReader(strings.Repeat("x", n)))
			}
		},
	},
	"a limit of the body's size from outside": {
		once: true,
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			k.Handle("%v %v", r.ParseForm(), r.PostForm)
			k.read(r.Body)
		},
		say: func(k *talk) {
			const form = "application/x-www-form-urlencoded"
			for _, n := range []int{4, 40} {
				k.do("POST", "/limited", strings.NewReader("i="+strings.Repeat("x", n)), "Content-Type", form)
				k.do("POST", "/limited", io.MultiReader(strings.NewReader("i="+strings.Repeat("x", n))), "Content-Type", form)
			}
		},
	},
	"a connection that is taken over": {
		only: 1,
		once: true,
		handle: func(k *talk, w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				k.Handle("%v", err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: words\r\nConnection: Upgrade\r\n\r\n")
			_ = rw.Flush()
			line, err := rw.ReadString('\n')
			k.Handle("%q %v", line, err)
			_, _ = rw.WriteString("bye")
			_ = rw.Flush()
			_, err = w.Write([]byte("x"))
			k.Handle("%v", err)
		},
		say: func(k *talk) {
			k.rawly("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\n", "\r\n\r\n", "hello\n")
		},
	},
	"deadlines": {
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			k.Handle("%v", control.SetReadDeadline(time.Now().Add(time.Minute)))
			k.read(r.Body)
			k.Handle("%v", control.SetWriteDeadline(time.Now().Add(time.Minute)))
		},
		say: func(k *talk) { k.do("POST", "/", strings.NewReader("row")) },
	},
	"a client that goes away": {
		only: 1,
		once: true,
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			k.read(r.Body)
			k.reached <- struct{}{}
			<-r.Context().Done()
			k.Handle("%v", context.Cause(r.Context()))
			_, err := io.WriteString(w, "late")
			k.Handle("%v", err)
		},
		say: func(k *talk) {
			conn, _ := k.raw()
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nrow")
			<-k.reached
			_ = conn.Close()
		},
	},
	"a panic while the body is read": {
		handle: func(k *talk, w http.ResponseWriter, r *http.Request) {
			k.read(io.LimitReader(r.Body, 1))
			panic(http.ErrAbortHandler)
		},
		say: func(k *talk) { k.do("POST", "/", strings.NewReader("row")) },
	},
	"what the request's context knows": {
		handle: func(k *talk, _ http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			k.Handle("%t %t %v", ctx.Value(http.ServerContextKey) == any(k.Config), ctx.Value(http.LocalAddrContextKey) != nil, ctx.Err())
			k.Handle("%s %s %s %t %t", r.Proto, r.RequestURI, r.URL, r.TLS != nil, r.Close)
		},
		say: func(k *talk) { k.do("GET", "/a%2fb?c=d", http.NoBody) },
	},
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
