package httpscope_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// requests are conversations about the rest of the request, and the response.
var requests = map[string]conversation{
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
		unread: true,
		once:   true,
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
		unread: true,
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
