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

// outer is what httpscope sends to: gin's writer, which writes a header that the
// handler has written with the first byte, as it does for gin's own answers, so
// that what compresses outside can still change it; or else when the chain
// returns. One that the handler has not written is left for gin and middlewares
// outside to write.
type outer struct {
	gin.ResponseWriter
	later bool // the handler has not written the header
	due   bool // it has, and it is to be written
}

func (o *outer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *outer) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols { // gin would take it for the last
		if inner, ok := o.ResponseWriter.(interface{ Unwrap() http.ResponseWriter }); ok {
			inner.Unwrap().WriteHeader(status)
		}
		return
	}
	o.ResponseWriter.WriteHeader(status)
	if o.due = !o.later; status < 200 { // before the connection is taken over
		o.WriteHeaderNow()
	}
}
