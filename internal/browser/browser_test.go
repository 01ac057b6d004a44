package browser_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/browser"
	"github.com/dbscope/dbscope/internal/child"
)

func TestAnyChromeOnThePathWillDo(t *testing.T) {
	for _, name := range []string{"chromium", "google-chrome", "chromium-browser"} {
		dir := child.Stubs(t, name)
		t.Setenv("DBSCOPE_CHROME", "")
		t.Setenv("PATH", dir)
		if path, err := browser.Find(); err != nil || path != filepath.Join(dir, name) {
			t.Errorf("got %q, %v, want %s", path, err, name)
		}
	}
}

func TestTheVariableNamesOne(t *testing.T) {
	dir := child.Stubs(t, "mine", "path/chromium")
	t.Setenv("PATH", filepath.Join(dir, "path"))
	t.Setenv("DBSCOPE_CHROME", filepath.Join(dir, "mine"))
	if path, err := browser.Find(); err != nil || path != filepath.Join(dir, "mine") {
		t.Errorf("got %q, %v", path, err)
	}
	t.Setenv("DBSCOPE_CHROME", filepath.Join(dir, "nothing"))
	if path, err := browser.Find(); err == nil || errors.As(err, new(*child.MissingError)) || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %q, %v: another one must not take the place of what was chosen", path, err)
	}
}

func TestAMissingBrowserIsNamedWithWhatToDo(t *testing.T) {
	t.Setenv("DBSCOPE_CHROME", "")
	t.Setenv("PATH", child.Stubs(t))
	_, err := browser.Find()
	var missing *child.MissingError
	if err == nil {
		t.Skip("this system has one elsewhere")
	}
	if !errors.As(err, &missing) || missing.Key != "chromium" || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("got %v", err)
	}
}
