// Package browser has tests that drive the pages of the project with Chromium or
// Chrome, as people use them: with a mouse, by keyboard alone, in light and dark,
// on a phone. They also follow the documentation's site to a running program, and take
// the pictures for it (make screenshots).
package browser
