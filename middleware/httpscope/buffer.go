package httpscope

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
)

// bufferBody reads the whole body of a request, if it is to. Where that cannot be
// it answers the request, and reports false.
func (a *Adapter) bufferBody(outer http.ResponseWriter, r *http.Request) (b *body, ok bool) {
	limit := int64(a.opts.buffer)
	if limit < 0 || r.Body == nil || r.Body == http.NoBody {
		return nil, true
	}
	if r.ContentLength > limit {
		refuse(outer, http.StatusRequestEntityTooLarge)
		return nil, false
	}
	shareTrailer(r)
	var data bytes.Buffer
	data.Grow(int(min(max(r.ContentLength, 0), maxPooled)) + bytes.MinRead) // a client can promise anything
	_, err := data.ReadFrom(http.MaxBytesReader(outer, r.Body, limit))
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case err == nil:
		return &body{src: http.NoBody, kept: data.Bytes(), limit: data.Len()}, true
	case errors.As(err, &tooLarge):
		refuse(outer, http.StatusRequestEntityTooLarge)
	case errors.As(err, &timeout) && timeout.Timeout():
		refuse(outer, http.StatusRequestTimeout)
	default:
		refuse(outer, http.StatusBadRequest)
	}
	return nil, false
}

// refuse answers a request whose body is not read to its end, and has the server
// close the connection as [http.MaxBytesReader] does: after the client had time
// to read the answer, though it still sends.
func refuse(outer http.ResponseWriter, status int) {
	var server http.ResponseWriter
	for server = range chain(outer) { // the innermost is the server's
	}
	more := io.NopCloser(strings.NewReader("more"))
	_, _ = http.MaxBytesReader(server, more, 0).Read(make([]byte, 1))
	http.Error(outer, http.StatusText(status), status)
}
