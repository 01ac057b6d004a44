package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long what is bound to happen may take on a busy machine.
const patience = 90 * time.Second

// tab is one of the browser. What its page complains of, and what it loads from
// elsewhere, fails the test.
type tab struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // it is how chromedp knows its tab
	end  func()
	site string // everything has to come from there

	mu         sync.Mutex // guards the rest
	complaints []string
	expected   []string
}

// open opens a page in a profile of its own.
func open(t *testing.T, site, path string) *tab {
	t.Helper()
	p := &tab{t: t, site: site}
	ctx, end := chromedp.NewContext(running, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	p.ctx = ctx
	t.Cleanup(func() {
		p.check()
		end()
	})
	p.end = end
	if err := chromedp.Do(ctx); err != nil { // before a step that has a deadline, with which the tab would end
		t.Fatal(err)
	}
	call(p, audits.Enable, cdp.Empty{})
	p.desktop()
	p.goTo(path)
	return p
}

// listen is called with each of the tab's events, and must not block.
func (p *tab) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.complain("an exception: %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			p.complain("console.%s", e.Type)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.complain("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *audits.EventIssueAdded:
		if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
			p.complain("the policy forbids: %s %s", e.Issue.Details.ContentSecurityPolicyIssueDetails.ViolatedDirective,
				e.Issue.Details.ContentSecurityPolicyIssueDetails.BlockedURL)
		}
	case *network.EventRequestWillBeSent:
		url := e.Request.URL
		if !slices.ContainsFunc([]string{p.site + "/", "about:", "data:"}, func(prefix string) bool { return strings.HasPrefix(url, prefix) }) {
			p.complain("a request to elsewhere: %s", url)
		}
	}
}

func (p *tab) complain(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complaints = append(p.complaints, fmt.Sprintf(format, args...))
}

// expect lets one complaint pass, which has the text in it, such as the status of
// an answer. That it comes is not checked.
func (p *tab) expect(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, text)
}

// unexpected returns what the page has complained of, once.
func (p *tab) unexpected() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.DeleteFunc(p.complaints, func(c string) bool {
		i := slices.IndexFunc(p.expected, func(text string) bool { return strings.Contains(c, text) })
		if i >= 0 {
			p.expected = slices.Delete(p.expected, i, i+1)
		}
		return i >= 0
	})
	p.complaints = nil
	return all
}

// close closes the tab, and forgets what else its page complains of.
func (p *tab) close() {
	p.end()
	p.unexpected()
}

func (p *tab) check() {
	p.t.Helper()
	for _, c := range p.unexpected() {
		p.t.Errorf("the page complains of %s", c)
	}
}

// take takes a step, which waits for the element it is about.
func take[T any](p *tab, step chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, step)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	take(p, chromedp.Steps(steps...))
}

// call runs a command of the browser's protocol in the tab.
func call[P, R any](p *tab, c cdp.Command[P, R], params P) R {
	p.t.Helper()
	return take(p, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) })
}

func (p *tab) goTo(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.site + path))
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// doubleClick presses twice, as fast as a hand that did not mean to.
func (p *tab) doubleClick(selector string) {
	p.t.Helper()
	node := take(p, chromedp.Nodes(chromedp.CSS(selector), chromedp.NodeVisible))[0]
	p.do(chromedp.MouseClickNode(node), chromedp.MouseClickNode(node, chromedp.ClickCount(2)))
}

// keys presses keys, wherever the focus is.
func (p *tab) keys(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// eval returns the value of a JavaScript expression in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	return take(p, chromedp.Evaluate[T](expression))
}

// loseAnswer cuts the connection of each request to such an address after the
// service has answered, until the function it returns is called.
func (p *tab) loseAnswer(address string) (until func()) {
	p.t.Helper()
	err := chromedp.Listen(p.ctx, func(event any) {
		if e, is := event.(*fetch.EventRequestPaused); is {
			go func() {
				_ = chromedp.Do(p.ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
					_, err := cdp.Call(ctx, t, fetch.FailRequest,
						fetch.FailRequestParams{RequestID: e.RequestID, ErrorReason: network.ErrorReasonConnectionReset})
					return err
				})) // without it the request would hang, and the test with it
			}()
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	patterns := []*fetch.RequestPattern{{URLPattern: address, RequestStage: fetch.RequestStageResponse}}
	call(p, fetch.Enable, fetch.EnableParams{Patterns: patterns})
	return func() { call(p, fetch.Disable, cdp.Empty{}) }
}

// text returns what can be read in the first element, or nothing where there is
// none.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf(`document.querySelector(%s)?.innerText ?? ""`, quote(selector)))
}

// waitFor waits until an element can be seen that has the text.
func (p *tab) waitFor(selector, text string) {
	p.t.Helper()
	p.wait(selector+" with "+text, fmt.Sprintf(
		`[...document.querySelectorAll(%s)].some((e) => e.checkVisibility() && e.innerText.includes(%s))`, quote(selector), quote(text)))
}

// wait waits until a JavaScript expression is true.
func (p *tab) wait(what, expression string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !eval[bool](p, expression); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it did not come: %s\n%s", what, p.text("main"))
		}
	}
}

func quote(text string) string {
	quoted, _ := json.Marshal(text) // a string always can be
	return string(quoted)
}

// desktop and phone are what the page is seen on.
func (p *tab) desktop() { p.t.Helper(); p.screen(1100, 800, 1, false) }
func (p *tab) phone()   { p.t.Helper(); p.screen(360, 740, 2, true) }

func (p *tab) screen(width, height int64, scale float64, mobile bool) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride,
		emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: scale, Mobile: mobile})
}

// scheme is "light" or "dark".
func (p *tab) scheme(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia,
		emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}
