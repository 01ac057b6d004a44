// Package browser finds the browser that tests of pages drive.
package browser

import (
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/internal/child"
)

// names are those of Chromium and Chrome on the systems that have them. The last
// ones are in folders of their own on macOS.
var names = []string{"chromium", "google-chrome", "google-chrome-stable", "chrome", "chromium-browser", "Google Chrome", "Chromium"}

// Find returns the Chromium or Chrome that tests drive, the one that DBSCOPE_CHROME
// names where that is set.
func Find() (string, error) {
	missing := &child.MissingError{Name: "Chromium or Chrome", Key: "chromium", Variable: "DBSCOPE_CHROME"}
	for _, name := range names {
		path, err := child.Program(missing, name, "/Applications/Google Chrome.app/Contents/MacOS", "/Applications/Chromium.app/Contents/MacOS")
		switch {
		case err == nil:
			return path, nil
		case !errors.As(err, new(*child.MissingError)):
			return "", fmt.Errorf("browser: %w", err)
		}
	}
	return "", fmt.Errorf("browser: %w", missing)
}
