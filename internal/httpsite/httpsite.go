// Package httpsite is for the tests of middlewares that are made of httpscope.
package httpsite

import (
	"net/http"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

// Options are httpscope's for what a site of the conformance suite wants.
func Options(site middlewaretest.Site) []httpscope.Option {
	opts := []httpscope.Option{httpscope.OnError(func(_ *http.Request, err error) { site.OnError(err) })}
	if want := site.Options.ClientTimeout; want != 0 {
		opts = append(opts, httpscope.ClientTimeout(want))
	}
	if want := site.Options.BufferBody; want != 0 {
		opts = append(opts, httpscope.BufferBody(want))
	}
	if site.Options.ReadOnly {
		opts = append(opts, httpscope.ScopeOptions(dbscope.ReadOnly()))
	}
	if site.Options.Unscoped {
		opts = append(opts, httpscope.Unscoped(func(*http.Request) bool { return true }))
	}
	if name := site.Options.TokenHeader; name != "" {
		opts = append(opts, httpscope.TokenHeader(name))
	}
	if site.Options.Retry {
		opts = append(opts, httpscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond}, 1000))
	}
	return opts
}
