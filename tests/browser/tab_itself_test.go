package browser_test

import (
	"testing"
	"time"
)

// Each of these has to fail a test.
func TestAPageThatComplainsIsNoticed(t *testing.T) {
	site := startOrders(t)
	for what, script := range map[string]string{
		"inline style":   `document.body.setAttribute("style", "color: red")`,
		"inline script":  `document.body.append(Object.assign(document.createElement("script"), {textContent: "1"}))`,
		"another origin": `document.body.append(Object.assign(document.createElement("img"), {src: "http://elsewhere.invalid/x.png"}))`,
		"console":        `console.error("no")`,
		"exception":      `setTimeout(() => { throw new Error("no") })`,
		"rejection":      `void Promise.reject(new Error("no"))`,
		"status":         `fetch("/orders/nothing")`,
	} {
		t.Run(what, func(t *testing.T) {
			p := open(t, site, "/")
			eval[int](p, "("+script+", 0)")
			for end := time.Now().Add(patience); len(p.unexpected()) == 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("it was not noticed")
				}
			}
			p.close()
		})
	}
}
