// Package heldscope finds calls of other services that are made while a transaction of
// the caller's unit is open. Such a transaction keeps its connection, and what it has
// locked, for as long as somebody else takes.
//
//	client := &http.Client{Transport: heldscope.Transport(http.DefaultTransport)}
//
// The observers of the unit, or of its DBs, are told: package slogscope writes a line with
// the place of the call and that where the transaction was opened, otelscope counts,
// livescope shows, and scopetest.Strict fails a test. Where the unit has no observer a line
// goes to [slog.Default]. Calls are never refused.
//
// What helps is to make the call before the first statement or after the end of the unit
// ([dbscope.AfterCommit]), to commit and release the connection before it ([dbscope.DB]'s
// Commit and Release), or to make it from a job.
//
// Interceptors for clients of gRPC and Connect are in packages grpcscope and connectscope.
// For clients of other kinds, of a queue, a cache or a mail server, there is [Call].
package heldscope

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/callers"
	"github.com/dbscope/dbscope/internal/unit"
)

// Call tells of a call that is about to leave the process. It returns the context to make
// the call with, and a function that is to be called with its result when it is over. whom
// names the other side, in few words and without what changes from call to call. It does
// not block, and costs less than a microsecond where no transaction is open.
func Call(ctx context.Context, whom string) (_ context.Context, over func(error)) {
	if _, scoped := dbscope.FromContext(ctx); !scoped {
		return ctx, nothing
	}
	ctx, open, over := unit.Value(ctx, unit.ControlKey{}).(unit.Caller).Calls(ctx, whom)
	switch {
	case over != nil:
		return ctx, over
	case len(open) > 0:
		var at callers.Trace
		at.Take()
		slog.WarnContext(ctx, whom+" is called while a transaction of "+strings.Join(open, ", ")+" is open",
			"suspicion", "call", "db", strings.Join(open, ", "), "called", whom, "at", at.Place().String())
	}
	return ctx, nothing
}

func nothing(error) {}

// Transport returns a RoundTripper that tells of requests and passes them on to next, or
// to [http.DefaultTransport] where that is nil. They are called by method and host, as
// "POST payments.example"; a request counts as over once its response begins. It is safe
// for concurrent use.
func Transport(next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	return transport{next}
}

type transport struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, scoped := dbscope.FromContext(r.Context()); !scoped {
		return t.next.RoundTrip(r)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	ctx, over := Call(r.Context(), method+" "+r.URL.Host)
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	resp, err := t.next.RoundTrip(r)
	over(err)
	return resp, err
}

// CloseIdleConnections closes those of the transport inside, if it can, as
// [http.Client.CloseIdleConnections] wants it.
func (t transport) CloseIdleConnections() {
	if c, can := t.next.(interface{ CloseIdleConnections() }); can {
		c.CloseIdleConnections()
	}
}
