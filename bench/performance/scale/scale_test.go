package scale_test

import (
	"testing"

	"github.com/dbscope/dbscope/bench/performance/scale"
)

func TestGrowthIsOneWhereTheCostOfEachStays(t *testing.T) {
	for _, c := range []struct{ smallEach, largeEach, want float64 }{{5, 5, 1}, {5, 50, 2}, {50, 5, 0}} {
		if got := scale.Growth(10, 100, c.smallEach, c.largeEach); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("from %v to %v: got %v, want %v", c.smallEach, c.largeEach, got, c.want)
		}
	}
}
