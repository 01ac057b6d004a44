// Package bench compares dbscope with the code one would write by hand. Its
// command is "make bench" in the repository's root.
package bench

import (
	"slices"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/check"
)

var must = check.OK

// compare times two ways of doing the same in turn, so that a machine whose
// speed drifts slows both, and reports the medians, their ratio, and the
// allocations.
func compare(b *testing.B, byHand, ours func()) {
	const rounds = 501
	n := min(calls(byHand), calls(ours))
	var hand, our []float64
	for b.Loop() {
		hand, our = hand[:0], our[:0]
		for range rounds {
			hand = append(hand, perCall(n, byHand))
			our = append(our, perCall(n, ours))
		}
	}
	b.ReportMetric(0, "ns/op") // of the whole comparison, which means nothing
	b.ReportMetric(median(hand), "hand-ns")
	b.ReportMetric(median(our), "ours-ns")
	b.ReportMetric(median(our)/median(hand), "ratio")
	b.ReportMetric(testing.AllocsPerRun(200, byHand), "hand-allocs")
	b.ReportMetric(testing.AllocsPerRun(200, ours), "ours-allocs")
}

// calls finds how many calls make a round of half a millisecond or more.
func calls(f func()) int {
	for n := 1; ; n *= 2 {
		if perCall(n, f)*float64(n) > 5e5 {
			return n
		}
	}
}

func perCall(n int, f func()) float64 {
	start := time.Now()
	for range n {
		f()
	}
	return float64(time.Since(start)) / float64(n)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
