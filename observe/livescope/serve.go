package livescope

import (
	"embed"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed page
var assets embed.FS

// files are what the page consists of.
var files = map[string]struct{ name, kind string }{
	"":          {"page/page.html", "text/html; charset=utf-8"},
	"page.js":   {"page/page.js", "text/javascript; charset=utf-8"},
	"style.css": {"page/style.css", "text/css; charset=utf-8"},
	"icon.svg":  {"page/icon.svg", "image/svg+xml"},
}

// policy lets the page load and call nothing but its own files.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP implements [http.Handler]. The path under which it is mounted ends with a
// slash.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	switch {
	case !p.allow(r):
		http.Error(w, "livescope shows this page to clients on the same machine only: see its option Allow", http.StatusForbidden)
		return
	case isForeign(r):
		http.Error(w, "livescope answers no other site", http.StatusForbidden)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "livescope only shows", http.StatusMethodNotAllowed)
		return
	}
	p.serve(w, r)
}

func (p *Page) serve(w http.ResponseWriter, r *http.Request) {
	at, last := path.Split(r.URL.Path)
	if path.Base(at) == "units" {
		p.serveUnit(w, last)
		return
	}
	switch f, is := files[last]; {
	case is:
		w.Header().Set("Content-Type", f.kind)
		content, _ := assets.ReadFile(f.name) // it is embedded
		_, _ = w.Write(content)
	case last == "stream":
		p.stream(w, r)
	case last == "overview":
		reply(w, p.overview(time.Now()))
	default:
		http.NotFound(w, r)
	}
}

func (p *Page) serveUnit(w http.ResponseWriter, id string) {
	n, err := strconv.ParseUint(id, 10, 64)
	t, is := p.timeline(n, time.Now())
	if err != nil || !is {
		http.Error(w, "this unit is not kept", http.StatusNotFound)
		return
	}
	reply(w, t)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // what fails is the client's connection
}

// isLocal reports whether a client is on the same machine, and has called it by a name of
// that: a page of another site, whose name was made to lead here, would be called by its
// own. What a proxy passes on may come from anywhere.
func isLocal(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return false
		}
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// isForeign reports whether another site's page makes the request. To follow a link from
// one is no such request.
func isForeign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate"
}
