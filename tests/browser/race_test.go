//go:build race

package browser_test

// buildFlags are those of the example: where the tests look for races, it does.
var buildFlags = []string{"-race"}
