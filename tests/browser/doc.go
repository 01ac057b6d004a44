// Package browser has tests that drive the pages of the project with Chromium or
// Chrome, as people use them: with a mouse, by keyboard alone, in light and dark,
// on a phone. They also take the pictures for the documentation (make screenshots).
package browser
