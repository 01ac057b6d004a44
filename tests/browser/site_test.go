package browser_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

// builtSite is the folder of the documentation's pages as make docs builds them. That is
// done here if there are none, or if one was changed since.
var builtSite = sync.OnceValues(func() (string, error) {
	const dist = "../../site/.vitepress/dist"
	built, err := newest(dist)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, folder := range []string{"../../docs", "../../site/.vitepress/*.mjs"} {
		written, err := newest(folder)
		if err != nil {
			return "", err
		}
		if written.Before(built) {
			continue
		}
		build := exec.Command("make", "docs")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("the site is not built, and make docs fails: %w\n%s", err, out)
		}
		break
	}
	return dist, nil
})

// newest returns when the last of the files in folders was written.
func newest(pattern string) (last time.Time, err error) {
	folders, err := filepath.Glob(pattern)
	if err == nil && folders == nil {
		err = fs.ErrNotExist
	}
	for _, folder := range folders {
		err = errors.Join(err, filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err == nil && !entry.IsDir() && info.ModTime().After(last) {
				last = info.ModTime()
			}
			return err
		}))
	}
	return last, err
}

// openSite opens the first page of the documentation.
func openSite(t *testing.T) *tab {
	t.Helper()
	dist, err := builtSite()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dist)))
	t.Cleanup(server.Close)
	p := open(t, server.URL, "/")
	p.wide()
	p.waitFor("h1", "dbscope")
	return p
}

// wide is a screen that has room for the whole navigation.
func (p *tab) wide() { p.t.Helper(); p.screen(1440, 900, 1, false) }

func (p *tab) checkTitle(want string) {
	p.t.Helper()
	p.waitFor("h1", want)
	if p.text(".VPDoc .vp-doc p") == "" {
		p.t.Errorf("the page %s is empty", want)
	}
}

const inField = `document.activeElement.id === "localsearch-input"`

// What people may look for, and the page that answers it.
func TestTheSearchFindsThePage(t *testing.T) {
	p := openSite(t)
	for _, look := range []struct{ words, result, title string }{
		{"savepoint", "Atomic", "Atomic"},
		{"ErrSessionBusy", "Work side by side", "Work side by side"},
		{"row-level security", "Tenants", "Tenants"},
		{"OpenTelemetry", "See what units do", "See what units do"},
	} {
		p.click(".DocSearch-Button")
		p.wait("the field", inField)
		p.keys(look.words) // SendKeys of chromedp races with pages that change attributes
		p.waitFor(".VPLocalSearchBox .result", look.result)
		eval[int](p, `([...document.querySelectorAll(".VPLocalSearchBox .result")].find((e) => e.innerText.includes(`+quote(look.result)+`)).click(), 0)`)
		p.wait("the end of the search", `!document.querySelector(".VPLocalSearchBox")`)
		p.checkTitle(look.title)
	}
}

func TestTheSearchNeedsNoMouse(t *testing.T) {
	p := openSite(t)
	p.keys("/")
	p.wait("the field", inField)
	p.keys("advisory lock")
	p.waitFor(".VPLocalSearchBox .result.selected", "")
	p.keys(kb.Enter)
	p.wait("the page", `location.pathname !== "/" && document.querySelector(".vp-doc").innerText.toLowerCase().includes("advisory lock")`)
}

func TestTheSiteIsDarkOnDemandAndStaysSo(t *testing.T) {
	p := openSite(t)
	dark := func() bool { p.t.Helper(); return eval[float64](p, lightness) < 0.5 }
	if dark() {
		t.Error("the site is dark before anybody asks for it")
	}
	p.click(".VPNavBarAppearance button")
	p.wait("the dark page", lightness+" < 0.5")
	p.click(`.VPSidebar a[href="/units.html"]`)
	p.checkTitle("Units of work")
	p.goTo("/recipes.html")
	p.checkTitle("Recipes")
	if !dark() {
		t.Error("the site is light again on another page")
	}
	p.click(".VPNavBarAppearance button")
	p.wait("the light page", lightness+" > 0.5")
}

func TestTheSiteCanBeReadByEverybody(t *testing.T) {
	p := openSite(t)
	for _, path := range []string{"/", "/getting-started.html", "/units.html"} {
		p.goTo(path)
		for range 2 { // light and dark
			p.wait("the end of the change", `document.getAnimations().length === 0`)
			for _, text := range eval[[]string](p, faint) {
				t.Errorf("%s: too little contrast: %s", path, text)
			}
			p.click(".VPNavBarAppearance button")
		}
		p.phone()
		p.checkWidth()
		p.wide()
	}
}
