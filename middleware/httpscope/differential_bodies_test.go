package httpscope_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// a conversation is what a handler and its client do.
type conversation struct {
	handle func(k *talk, w http.ResponseWriter, r *http.Request)
	say    func(k *talk)
	only   int  // the protocol's major version, where it is not for both
	unread bool // it is about when the body is read, or by whom
	once   bool // there is no second attempt: the response begins while the handler runs, or the body breaks off
}

const chunked = "Host: x\r\nTransfer-Encoding: chunked\r\n"

// bodies are conversations about the request's body.
var bodies = map[string]conversation{
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
		unread: true,
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
		unread: true,
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
		unread: true,
		only:   1,
		once:   true, // a second attempt says 102 once more
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
		unread: true,
		only:   1,
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
		unread: true,
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
		unread: true,
		once:   true,
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
		unread: true,
		once:   true,
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
}
