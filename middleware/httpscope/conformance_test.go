package httpscope_test

import (
	"net/http"
	"testing"

	"github.com/dbscope/dbscope/internal/httpsite"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

func TestTheMiddlewareConforms(t *testing.T) {
	middlewaretest.Run(t, middlewaretest.NetHTTP(func(site middlewaretest.Site) func(http.Handler) http.Handler {
		return httpscope.Middleware(httpsite.Options(site)...)
	}))
}

func TestTheMiddlewareCarriesTokens(t *testing.T) {
	routertest.Run(t, withTokens(httpscope.ReadOnlySafeMethods()))
	routertest.RunUnscoped(t, withTokens(httpscope.Unscoped(func(*http.Request) bool { return true })))
}

func withTokens(opt httpscope.Option) middlewaretest.Framework {
	return middlewaretest.NetHTTP(func(site middlewaretest.Site) func(http.Handler) http.Handler {
		return httpscope.Middleware(append(httpsite.Options(site), opt,
			httpscope.TokenCookie(http.Cookie{Name: routertest.Cookie}), httpscope.TokenHeader(routertest.Header))...)
	})
}
