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

func TestWithoutATraceThereIsNoPlace(t *testing.T) {
	var at callers.Trace
	if p := at.Place(); p != (callers.Place{}) || p.String() != "" {
		t.Errorf("the place is %s", p)
	}
}
