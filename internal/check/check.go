// Package check has the checks that tests of all packages make. A test package
// calls them as it likes:
//
//	var ok, is = check.OK, check.Is
package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Test is what checks need of a [testing.TB], or of a test of rapid.
type Test interface {
	Helper()
	Fatalf(format string, args ...any)
}

// OK fails the test at an error.
func OK(t Test, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// Is fails the test unless the error is, or wraps, the target.
func Is(t Test, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want one that is %q", err, target)
	}
}

// Equal fails the test unless it has got what it wants.
func Equal[T comparable](t Test, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s:\n got %s\nwant %s", what, list(got), list(want))
	}
}

func list[T any](all []T) string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = fmt.Sprint(one)
	}
	return strings.Join(texts, ", ")
}

// Eventually waits for what is bound to happen, and fails the test where it does
// not within half a minute.
func Eventually(t Test, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}
