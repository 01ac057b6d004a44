package browser_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func openOrders(t *testing.T) *tab {
	t.Helper()
	p := open(t, startOrders(t), "/")
	p.waitFor("#stock", "1,000,000")
	return p
}

// checkOrders compares what is stored, the newest first, with what should be.
func (p *tab) checkOrders(want ...string) {
	p.t.Helper()
	var got []string
	for _, o := range ordersOf(p.t, p.site) {
		got = append(got, fmt.Sprintf("%s: %s %s", o.Customer, o.SKU, o.Status))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		p.t.Errorf("stored is %q, want %q", got, want)
	}
}

func TestAnOrderIsPlacedAndCancelled(t *testing.T) {
	p := openOrders(t)
	p.do(chromedp.SetValue(chromedp.CSS(`[name="customer"]`), "grace <b>"), chromedp.SetValue(chromedp.CSS(`[name="quantity"]`), "3"))
	p.click("#order button")
	p.waitFor("#order .said", "is placed.")
	p.waitFor("#orders li", "3 × tea for grace <b>")
	p.waitFor("#stock", "999,997")
	p.checkOrders("grace <b>: tea placed")

	p.click("#orders button")
	p.waitFor("#list .said", "is cancelled")
	p.waitFor("#orders li.cancelled", "cancelled")
	p.waitFor("#stock", "1,000,000")
	p.checkOrders("grace <b>: tea cancelled")
}

func TestWhatCannotBeOrderedIsSaid(t *testing.T) {
	p := openOrders(t)
	p.expect("status of 409")
	p.do(chromedp.SetValue(chromedp.CSS(`[name="sku"]`), "last-cup"), chromedp.SetValue(chromedp.CSS(`[name="quantity"]`), "2"))
	p.click("#order button")
	p.waitFor("#order .said.bad", "out of stock")
	p.checkOrders()
}

// A mouse that bounces, and a person who does not trust it.
func TestPressingTwiceOrdersOnce(t *testing.T) {
	p := openOrders(t)
	p.doubleClick("#order button")
	p.waitFor("#order .said", "was not placed again")
	for range 3 {
		p.click("#order button")
	}
	p.do(chromedp.Focus(chromedp.CSS(`[name="customer"]`)))
	p.keys(kb.Enter + kb.Enter)
	p.waitFor("#orders li", "1 × tea for ada")
	p.checkOrders("ada: tea placed")

	p.click(`#order [type="reset"]`) // another one, with the same fields
	p.click("#order button")
	p.waitFor("#order .said", "is placed.")
	p.checkOrders("ada: tea placed", "ada: tea placed")

	p.do(chromedp.SendKeys(chromedp.CSS(`[name="customer"]`), "!")) // and a changed one
	p.click("#order button")
	p.waitFor("#orders li", "1 × tea for !ada")
	p.checkOrders("!ada: tea placed", "ada: tea placed", "ada: tea placed")
}

func TestAnImportIsStoredOnceOrNamesTheBadLine(t *testing.T) {
	p := openOrders(t)
	p.expect("status of 422")
	p.click("#import button")
	p.waitFor("#import .said.bad", "line 4: no such article: unicorn")
	p.checkOrders()

	file := filepath.Join(t.TempDir(), "orders.csv")
	if err := os.WriteFile(file, []byte("customer,sku,quantity\nada,tea,1\nbob,coffee,2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.SetUploadFiles(chromedp.CSS(`#import [type="file"]`), []string{file}))
	p.wait("the file's lines", `document.querySelector("textarea").value.includes("bob,coffee,2")`)
	p.doubleClick("#import button")
	p.waitFor("#import .said", "Imported already, and not again: 2 orders.")
	p.waitFor("#orders li", "2 × coffee for bob")
	p.checkOrders("ada: tea placed", "bob: coffee placed") // an import goes by article
}

func TestOlderOrdersComeOnDemand(t *testing.T) {
	p := openOrders(t)
	lines := "customer,sku,quantity" + strings.Repeat(`\nada,tea,1`, 11)
	eval[string](p, `document.querySelector("textarea").value = "`+lines+`"`)
	p.click("#import button")
	p.wait("a page of orders", `document.querySelectorAll("#orders li").length === 8`)
	p.click("#older")
	p.wait("all orders", `document.querySelectorAll("#orders li").length === 11`)
	p.wait("the focus on the first of the older ones", `document.activeElement === document.querySelectorAll("#orders strong")[8]`)
}

// No mouse is touched here.
func TestTheKeyboardAloneOrdersCancelsAndImports(t *testing.T) {
	p := openOrders(t)
	p.keys(kb.Tab) // to the link that leads past the head of the page
	p.wait("the link to the form", `document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().left >= 0`)
	p.keys(kb.Enter)
	p.tabTo(`[name="customer"]`)
	p.keys("grace")
	p.tabTo(`[name="sku"]`)
	p.keys("c") // coffee
	p.keys(kb.Enter)
	p.tabTo("#order button")
	p.keys(kb.Enter)
	p.waitFor("#orders li", "1 × coffee for grace")

	p.tabTo("#orders button")
	p.keys(" ")
	p.waitFor("#orders li.cancelled", "cancelled")
	p.wait("the focus to stay with the order", `document.activeElement.matches("#orders .cancelled strong")`)

	p.tabTo("textarea")
	eval[int](p, `(document.activeElement.select(), 0)`)
	p.keys("customer,sku,quantity\rbob,tea,1")
	p.tabTo("#import button")
	p.keys(" ")
	p.waitFor("#import .said", "Imported: one order.")
	p.checkOrders("bob: tea placed", "grace: coffee cancelled")

	p.tabTo(`[data-trouble="repeated"]`)
	p.keys(kb.Enter)
	p.waitFor("#trouble .said", "done")
}

func TestTheOrdersCanBeReadByEverybody(t *testing.T) {
	p := openOrders(t)
	p.expect("status of 422")
	p.do(chromedp.SetValue(chromedp.CSS(`[name="customer"]`), strings.Repeat("averylongname", 7)))
	p.click("#order button")
	p.waitFor("#orders li", "averylongname")
	p.click("#orders button")
	p.waitFor("#orders li.cancelled", "cancelled")
	p.click("#import button")
	p.waitFor("#import .said", "line 4")
	p.checkLooks()
	p.checkNames()
}

// The service has placed the order, and nobody hears of it.
func TestAnAnswerThatIsLostIsAskedForAgain(t *testing.T) {
	p := openOrders(t)
	p.expect("net::ERR_CONNECTION_RESET")
	lost := p.loseAnswer("*/orders")
	p.click("#order button")
	p.waitFor("#order .said.bad", "press again, and it is done once")
	lost()
	p.checkOrders("ada: tea placed")
	p.click("#order button")
	p.waitFor("#order .said", "is placed already, and was not placed again")
	p.checkOrders("ada: tea placed")
}
