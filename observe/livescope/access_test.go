package livescope_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dbscope/dbscope/observe/livescope"
)

// A page of another site, whose name was made to lead to this service, is in the browser
// of somebody who may see the page of transactions.
func TestWhoeverMaySeeThePageComesByANameThatIsKnown(t *testing.T) {
	all := livescope.Allow(func(*http.Request) bool { return true })
	none := livescope.Allow(func(*http.Request) bool { return false })
	named := livescope.ServedAs("shop.internal", "Shop.Example")
	for name, c := range map[string]struct {
		from, host string
		opts       []livescope.Option
		sees       bool
	}{
		"by a name that nobody knows":           {"10.0.0.7:4711", "evil.example", []livescope.Option{all}, false},
		"by one that ends like a known one":     {"10.0.0.7:4711", "evil.shop.internal", []livescope.Option{all, named}, false},
		"without a name":                        {"10.0.0.7:4711", "", []livescope.Option{all, named}, false},
		"by a name of the program's":            {"10.0.0.7:4711", "shop.internal:8080", []livescope.Option{all, named}, true},
		"by another one, in other letters":      {"10.0.0.7:4711", "SHOP.example.", []livescope.Option{all, named}, true},
		"by localhost":                          {"10.0.0.7:4711", "localhost:8080", []livescope.Option{all}, true},
		"by an address, which leads nowhere":    {"10.0.0.7:4711", "192.0.2.1:8080", []livescope.Option{all}, true},
		"by an address of IPv6":                 {"10.0.0.7:4711", "[2001:db8::1]:8080", []livescope.Option{all}, true},
		"by a name, where Allow says no":        {"127.0.0.1:4711", "localhost", []livescope.Option{none, named}, false},
		"by a name alone":                       {"10.0.0.7:4711", "shop.internal", []livescope.Option{named}, false},
		"by a name, from this machine":          {"127.0.0.1:4711", "shop.internal", []livescope.Option{named}, true},
		"by an address of this machine's, here": {"127.0.0.1:4711", "192.0.2.1:8080", nil, true},
	} {
		p := livescope.New(c.opts...)
		for _, path := range []string{"", "page.js", "overview", "units/1"} {
			r := local(http.MethodGet, "/debug/dbscope/"+path)
			r.RemoteAddr, r.Host = c.from, c.host
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if sees := w.Code != http.StatusForbidden; sees != c.sees {
				t.Errorf("%s: %q answers %d", name, path, w.Code)
			}
		}
	}
}

func TestWhatAProxyPassesOnIsRefused(t *testing.T) {
	p, _, _ := newPage()
	for _, header := range []string{
		"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Real-IP",
		"X-Original-Forwarded-For", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Cluster-Client-IP",
		"X-Envoy-External-Address", "Fastly-Client-IP", "Fly-Client-IP", "X-Azure-ClientIP", "X-ProxyUser-Ip",
	} {
		r := local(http.MethodGet, "/debug/dbscope/")
		r.Header.Set(header, "")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("with %s it answers %d", header, w.Code)
		}
	}
}

func TestAServerThatShutsDownDoesNotWaitForReaders(t *testing.T) {
	p, _, _ := newPage(livescope.Every(time.Hour))
	for range 2 { // of one page on several servers, one after the other
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		ok(t, err)
		server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
		served := make(chan error)
		go func() { served <- server.Serve(listener) }()
		var readers []io.Reader
		for range 3 {
			resp, err := http.Get("http://" + listener.Addr().String() + "/stream")
			ok(t, err)
			t.Cleanup(func() { _ = resp.Body.Close() })
			readers = append(readers, resp.Body)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		ok(t, server.Shutdown(ctx))
		for _, r := range readers {
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Errorf("the stream did not end as it should: %v", err)
			}
		}
		if err := <-served; err != http.ErrServerClosed { //nolint:errorlint // it is that
			t.Error(err)
		}
	}
}
