package connectscope_test

import (
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

func TestAUnitHasTheNameOfItsProcedure(t *testing.T) {
	names := make(observetest.Names, 10)
	s := newSite(t, connectscope.ScopeOptions(dbscope.Observe(names)))
	s.place = s.stores(nil)
	for _, option := range protocols {
		if _, err := s.send(option); err != nil {
			t.Error(err)
		}
		if got := <-names; got != placeMethod {
			t.Errorf("the unit is called %q", got)
		}
	}
}
