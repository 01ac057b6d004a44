package ginscope

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"
)

// writer is gin's view of the response that httpscope holds. It does what gin's
// own writer does on a server's.
type writer struct {
	http.ResponseWriter // which holds
	outer               *outer
	status              int
	size                int // -1 until the header is written
}

func (w *writer) Status() int   { return w.status }
func (w *writer) Size() int     { return w.size }
func (w *writer) Written() bool { return w.size >= 0 }

// WriteHeader only notes the status, as gin's does.
func (w *writer) WriteHeader(status int) {
	if status > 0 && !w.Written() {
		w.status = status
	}
}

func (w *writer) WriteHeaderNow() {
	if !w.Written() {
		w.size = 0
		w.ResponseWriter.WriteHeader(w.status)
	}
}

func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeaderNow()
	n, err := w.ResponseWriter.Write(p)
	w.size += n
	return n, err
}

func (w *writer) WriteString(s string) (int, error) {
	w.WriteHeaderNow()
	n, err := io.WriteString(w.ResponseWriter, s)
	w.size += n
	return n, err
}

func (w *writer) Flush() { _ = w.FlushError() } // the next Write has the error

// FlushError is for [http.ResponseController].
func (w *writer) FlushError() error {
	w.WriteHeaderNow()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.size = max(w.size, 0)
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

func (w *writer) CloseNotify() <-chan bool    { return w.outer.CloseNotify() }
func (w *writer) Pusher() http.Pusher         { return w.outer.Pusher() }
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// outer is what httpscope sends to: gin's writer, where a header that the
// handler has written is written now, as a server's writer does, and another
// one later, so that gin and middlewares outside can still answer.
type outer struct {
	gin.ResponseWriter
	later bool
}

func (o *outer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *outer) WriteHeader(status int) {
	o.ResponseWriter.WriteHeader(status)
	if !o.later {
		o.WriteHeaderNow()
	}
}
