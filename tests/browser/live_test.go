package browser_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The trouble that the page of the orders makes.
var troubles = []string{"slow", "idle", "failed", "repeated", "call"}

// makeTrouble presses a button, and waits for the end of what that begins.
func (p *tab) makeTrouble(what string) {
	p.t.Helper()
	if what == "failed" {
		p.expect("status of 500")
	}
	button := `[data-trouble="` + what + `"]`
	name := p.text(button)
	p.click(button)
	p.wait("the end of "+what, `(() => {
		const said = document.querySelector("#trouble .said").innerText;
		return said.startsWith(`+quote(name)+`) && !said.includes("under way");
	})()`)
}

// openLive opens the page of the transactions, and remembers what it ever shows as
// under way.
func openLive(t *testing.T, site string) *tab {
	t.Helper()
	p := open(t, site, "/debug/dbscope/")
	p.waitFor("#connection", "live")
	eval[int](p, `(() => {
		const live = document.querySelector("#live");
		window.shown = "";
		new MutationObserver(() => { window.shown += live.innerText + "\n"; }).observe(live, { subtree: true, childList: true, characterData: true });
		return 0;
	})()`)
	return p
}

// The page is open all the time, and shows by itself what goes on.
func TestTroubleIsSeenWhileItGoesOnAndAfterwards(t *testing.T) {
	orders := openOrders(t)
	live := openLive(t, orders.site)
	for _, what := range troubles {
		orders.makeTrouble(what)
	}
	for _, seen := range []struct{ where, name, what string }{
		{"#slowest li", "POST /trouble/slow", "statement"}, // a single one takes two seconds on a busy machine
		{"#suspicious li", "POST /trouble/idle", "is idle"},
		{"#failures li", "order of a unicorn", "rolled back"},
		{"#suspicious li", "POST /trouble/repeated", "the same query was run 25 times"},
		{"#suspicious li", "POST /trouble/call", "POST payments.example was called"},
		{"#suspicious li", "POST /trouble/call", "trouble.go"}, // from there
		{"#suspicious li", "POST /trouble/call", "store.go"},   // where the transaction was opened
	} {
		live.wait(seen.name+": "+seen.what, `[...document.querySelectorAll(`+quote(seen.where)+`)].some((li) =>
			li.innerText.includes(`+quote(seen.name)+`) && li.innerText.includes(`+quote(seen.what)+`))`)
	}
	shown := eval[string](live, "window.shown")
	for _, name := range []string{"slow", "idle"} {
		if !strings.Contains(shown, "POST /trouble/"+name) {
			t.Errorf("%s was not shown as under way, but\n%s", name, shown)
		}
	}
	if !strings.Contains(shown, "with recursive") {
		t.Errorf("the slow statement was not shown, but\n%s", shown)
	}
}

func TestWhatClientsSendIsNotShown(t *testing.T) {
	orders := openOrders(t)
	live := openLive(t, orders.site)
	orders.do(chromedp.SetValue(chromedp.CSS(`[name="customer"]`), "somebody-secret"))
	orders.click("#order button")
	orders.waitFor("#orders li", "somebody-secret")
	live.waitFor("#recent li", "POST /orders")
	if text := eval[string](live, "document.documentElement.textContent"); strings.Contains(text, "secret") {
		t.Errorf("the page has an argument:\n%s", text)
	}
}

func TestTheTimelineOpensByKeyboard(t *testing.T) {
	orders := openOrders(t)
	orders.makeTrouble("idle")
	live := openLive(t, orders.site)
	live.waitFor("#suspicious li", "POST /trouble/idle")
	button := `#suspicious button[aria-label*="POST /trouble/idle"]`
	live.tabTo(button)
	live.keys(kb.Enter)
	live.waitFor("#timeline", "Timeline of POST /trouble/idle")
	live.wait("the focus in the timeline", `document.querySelector("#timeline").contains(document.activeElement)`)
	for _, step := range []string{"select sku, quantity from stock order by sku", "application, transaction open", "commit"} {
		live.waitFor("#timeline tbody tr", step)
	}
	// What took longest is the longest bar.
	longest := eval[string](live, `[...document.querySelectorAll("#timeline tbody tr")]
		.toSorted((a, b) => b.querySelector(".bar").offsetWidth - a.querySelector(".bar").offsetWidth)[0].innerText`)
	if !strings.Contains(longest, "application") {
		t.Errorf("the longest bar is that of %q", longest)
	}
	live.keys(kb.Escape)
	live.wait("the timeline to close", `!document.querySelector("#timeline").checkVisibility()`)
	live.wait("the focus to be back", `document.activeElement.matches(`+quote(button)+`)`)
}

func TestThePageOfTransactionsIsPausedByKeyboard(t *testing.T) {
	orders := openOrders(t)
	live := openLive(t, orders.site)
	live.tabTo("#pause")
	live.keys(" ")
	live.waitFor("#connection", "paused")
	orders.makeTrouble("repeated")
	if text := live.text("#suspicious"); strings.Contains(text, "repeated") {
		t.Errorf("the page goes on:\n%s", text)
	}
	live.keys(" ")
	live.waitFor("#suspicious li", "POST /trouble/repeated")
}

func TestThePageOfTransactionsCanBeReadByEverybody(t *testing.T) {
	orders := openOrders(t)
	for _, what := range troubles {
		orders.makeTrouble(what)
	}
	live := openLive(t, orders.site)
	live.waitFor("#suspicious li", "POST /trouble/call")
	live.checkLooks()
	live.checkNames()
	live.click(`#suspicious button[aria-label*="POST /trouble/call"]`)
	live.waitFor("#timeline tbody tr", "POST payments.example")
	live.checkLooks()
	live.checkNames()
}
