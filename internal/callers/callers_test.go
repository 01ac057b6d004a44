package callers_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope/internal/callers"
)

func TestThePlaceIsTheApplicationsAndNotALibrarys(t *testing.T) {
	var at callers.Trace
	new(sync.Once).Do(at.Take) // through the standard library
	p := at.Place()
	if filepath.Base(p.File) != "callers_test.go" || !strings.HasSuffix(p.Function, "TestThePlaceIsTheApplicationsAndNotALibrarys") {
		t.Errorf("the place is %s", p)
	}
	if want := "callers_test.go:14 callers_test.Test"; !strings.Contains(p.String(), want) {
		t.Errorf("the place reads %q, want %q in it", p, want)
	}
}

// take is one of an application's functions through which all statements go.
func take(at *callers.Trace) { at.Take() }

func TestThePlaceSaysWhereAFunctionThatManyUseWasCalledFrom(t *testing.T) {
	var at callers.Trace
	var recursive func(deep int)
	recursive = func(deep int) {
		if deep > 0 {
			recursive(deep - 1)
			return
		}
		take(&at)
	}
	recursive(5)
	p := at.Place()
	lines := strings.Split(p.String(), ", from ")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "callers_test.take") || !strings.HasSuffix(lines[1], "CalledFrom.func1") ||
		!strings.HasSuffix(lines[2], "CalledFrom") {
		t.Errorf("the place is %q", lines)
	}
}

func TestWithoutATraceThereIsNoPlace(t *testing.T) {
	var at callers.Trace
	if p := at.Place(); p != (callers.Place{}) || p.String() != "" {
		t.Errorf("the place is %s", p)
	}
}
