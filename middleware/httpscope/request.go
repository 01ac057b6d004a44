package httpscope

import (
	"context"
	"io"
	"net/http"
)

// inner is the request that the handler gets in place of the one that the
// server, and the middlewares outside, go on to look at.
type inner struct {
	*http.Request
	outer   *http.Request
	body    io.ReadCloser // that it began with
	reading *reading      // of a body that another attempt may read again, or nil
}

// newInner makes the request of an attempt. One that can be repeated leaves the
// outer one as it was, for the next attempt.
func newInner(ctx context.Context, outer *http.Request, repeatable bool, b *body) inner {
	shareTrailer(outer)
	in := inner{outer: outer}
	if repeatable {
		in.Request = outer.Clone(ctx)
		in.Trailer = outer.Trailer // which the body fills in
	} else {
		in.Request = outer.WithContext(ctx)
	}
	in.reading = b.open(in.Request)
	in.body = in.Body
	return in
}

// shareTrailer makes a map for trailers that the client has not declared, but
// may send all the same: the server puts them into the outer request, once the
// body was read.
func shareTrailer(r *http.Request) {
	if r.Trailer == nil && r.ContentLength < 0 {
		r.Trailer = http.Header{}
	}
}

// giveBack makes the outer request what it would be had the handler been passed
// it: the server removes the files of its form and looks at its body, others log
// its route. It is for the handler's goroutine, and for the last attempt: another
// one would find the form and not read its own.
func (in inner) giveBack() {
	if in.Request == in.outer {
		return
	}
	body := in.outer.Body
	if in.Body != in.body { // the handler has replaced it
		body = in.Body
	}
	*in.outer = *in.WithContext(in.outer.Context())
	in.outer.Body = body
}
