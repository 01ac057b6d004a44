package browser_test

import (
	"encoding/json"
	"strings"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp/kb"
)

// checkLooks checks what everybody needs: in both colour schemes all text can be
// read, and on a phone nothing is beside the screen.
func (p *tab) checkLooks() {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		if light := eval[float64](p, lightness); (light > 0.5) != (scheme == "light") {
			p.t.Errorf("%s: the page is as light as %.2f", scheme, light)
		}
		for _, text := range eval[[]string](p, faint) {
			p.t.Errorf("%s: too little contrast: %s", scheme, text)
		}
	}
	p.scheme("light")
	p.phone()
	p.checkWidth()
	p.desktop()
	p.checkWidth()
}

func (p *tab) checkWidth() {
	p.t.Helper()
	for _, beside := range eval[[]string](p, beside) {
		p.t.Errorf("beside the screen: %s", beside)
	}
}

// lightness is that of the page's ground, from 0 to 1.
const lightness = `(() => {
	const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number);
	return (r + g + b) / 3 / 255;
})()`

// faint lists texts whose contrast is less than the 4.5 that WCAG 2.2 asks for.
const faint = `(() => {
	const parse = (c) => c.match(/[\d.]+/g).map(Number);
	const over = ([r, g, b, a = 1], under) => [r, g, b].map((v, i) => a * v + (1 - a) * under[i]);
	const luminance = ([r, g, b]) => [r, g, b]
		.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => e ? over(parse(getComputedStyle(e).backgroundColor), ground(e.parentElement)) : [255, 255, 255];
	const found = [];
	for (const e of document.querySelectorAll("body *")) {
		const own = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
		if (!own || !e.checkVisibility() || e.disabled || e.closest("noscript, option")) continue;
		const under = ground(e);
		const [a, b] = [luminance(over(parse(getComputedStyle(e).color), under)), luminance(under)].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) found.push(e.textContent.trim().slice(0, 40) + ": " + ratio.toFixed(2));
	}
	return found;
})()`

// beside lists elements that reach beyond the screen's right side, unless what they
// are in can be scrolled by itself.
const beside = `(() => {
	const width = document.documentElement.clientWidth;
	const scrolls = (e) => e && (["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
	const found = [...document.querySelectorAll("body *")]
		.filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > width + 0.5 && !scrolls(e.parentElement))
		.map((e) => e.tagName + " " + e.className + ": " + e.textContent.trim().slice(0, 40));
	if (document.scrollingElement.scrollWidth > width) found.push("the page is " + document.scrollingElement.scrollWidth + " wide, of " + width);
	return found;
})()`

// checkNames checks that a screen reader finds its way: landmarks, one heading of
// the first level, and a name for all that can be used.
func (p *tab) checkNames() {
	p.t.Helper()
	for _, selector := range []string{"header", "nav[aria-label]", "main", "h1"} {
		if n := eval[int](p, `document.querySelectorAll(`+quote(selector)+`).length`); n != 1 {
			p.t.Errorf("the page has %d of %s, want 1", n, selector)
		}
	}
	if language := eval[string](p, `document.documentElement.lang`); language == "" {
		p.t.Error("the page says not in which language it is")
	}
	roles := map[string]int{}
	for _, node := range call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if node.Ignored {
			continue
		}
		role := valueOf(node.Role)
		roles[role]++
		switch role {
		case "button", "link", "textbox", "combobox", "spinbutton", "region", "navigation":
			if valueOf(node.Name) == "" {
				p.t.Errorf("a %s has no name", role)
			}
		}
	}
	for _, role := range []string{"banner", "navigation", "main", "region", "button", "status"} {
		if roles[role] == 0 {
			p.t.Errorf("a screen reader finds no %s", role)
		}
	}
}

// valueOf returns the text of a value of the accessibility tree.
func valueOf(v *accessibility.Value) (text string) {
	if v != nil {
		_ = json.Unmarshal(v.Value, &text) // what is no text has none
	}
	return text
}

// tabTo moves the focus by the Tab key until it is on an element, and checks that
// each it comes to shows that it has the focus.
func (p *tab) tabTo(selector string) {
	p.t.Helper()
	var passed []string
	for range 80 {
		p.keys(kb.Tab)
		stop := eval[[]string](p, `(() => {
			const e = document.activeElement;
			const style = getComputedStyle(e);
			const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
			return [e.matches(`+quote(selector)+`) ? "here" : "", e === document.body || shown ? "" : "unseen", e.outerHTML.slice(0, 80)];
		})()`)
		if stop[1] != "" {
			p.t.Errorf("the focus cannot be seen on %s", stop[2])
		}
		if stop[0] != "" {
			return
		}
		passed = append(passed, stop[2])
	}
	p.t.Fatalf("the keyboard does not come to %s, but to\n%s", selector, strings.Join(passed, "\n"))
}
