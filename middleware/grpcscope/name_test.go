package grpcscope_test

import (
	"testing"

	"google.golang.org/grpc"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

func TestAUnitHasTheNameOfItsMethod(t *testing.T) {
	names := make(observetest.Names, 10)
	s := newSite(t, grpcscope.ScopeOptions(dbscope.Observe(names)))
	s.place = s.stores(nil)
	s.stream = func(grpc.ServerStream) error { return nil }
	if _, err := s.send(); err != nil {
		t.Error(err)
	}
	if got := <-names; got != placeMethod {
		t.Errorf("the unit of a call is called %q", got)
	}
	_, _ = receive(s.open(watchMethod))
	if got := <-names; got != watchMethod {
		t.Errorf("the unit of a stream is called %q", got)
	}
}
