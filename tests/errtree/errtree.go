// Package errtree writes errors down for tests that compare them.
package errtree

import (
	"fmt"
	"strings"
)

// Of is an error with all that it wraps, their types and texts: what errors.Is,
// errors.As, a type switch and a reader see of it.
func Of(err error) string {
	if err == nil {
		return "no error"
	}
	texts := []string{fmt.Sprintf("%T %s", err, err)}
	switch w := err.(type) { //nolint:errorlint // each error by itself
	case interface{ Unwrap() error }:
		if inner := w.Unwrap(); inner != nil {
			texts = append(texts, Of(inner))
		}
	case interface{ Unwrap() []error }:
		for _, inner := range w.Unwrap() {
			texts = append(texts, Of(inner))
		}
	}
	return strings.Join(texts, "\n of ")
}
