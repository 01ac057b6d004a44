package main

import (
	"embed"
	"net/http"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load and call nothing but what this service has.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// addPage serves the page at / and what it consists of. It asks for all else as
// every other client does.
func addPage(mux *http.ServeMux) {
	files := http.FileServerFS(pageFiles)
	page := func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		if r.URL.Path == "/" {
			http.ServeFileFS(w, r, pageFiles, "page/page.html")
			return
		}
		files.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET /{$}", page)
	for _, name := range []string{"page.js", "style.css", "icon.svg"} {
		mux.HandleFunc("GET /page/"+name, page)
	}
}
