// Package scale measures how the cost of a unit of work grows: with what is in
// it, and with how many there are at once. Units run in this process, without
// HTTP, on a PostgreSQL with the table of the subjects.
package scale

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Point is one measurement.
type Point struct {
	Axis  string
	N     int
	Ours  bool // else it is pgx by hand
	Round int
	// Each is for one of N: nanoseconds, or the bytes of an axis that is about
	// memory.
	Each float64
}

// Axis is one way to grow.
type Axis struct {
	Name  string
	Sizes []int
	Bytes bool // Each is memory
	// Run does the whole work of size n, once. ours is false for the code by
	// hand, which some axes do not have.
	run     func(ctx context.Context, n int, ours bool) error
	each    func(n int, ours bool) float64 // instead of run, where Bytes is set
	noHands bool
}

// Sizes from many on are measured less often: they take seconds, and their
// spread is small.
const many, roundsOfMany = 100_000, 3

// least is for how long a size is measured in each round.
const least = 20 * time.Millisecond

// Measure measures all axes, by hand and ours in turn.
func Measure(ctx context.Context, dsn string, rounds int) (points []Point, err error) {
	b, err := open(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, axis := range b.axes() {
		if err := axis.warm(ctx); err != nil {
			return nil, err
		}
		for _, n := range axis.Sizes {
			for round := range rounds {
				if n >= many && round >= roundsOfMany {
					break
				}
				for _, ours := range []bool{round%2 == 0, round%2 != 0} {
					if axis.noHands && !ours {
						continue
					}
					each, err := axis.measure(ctx, n, ours)
					if err != nil {
						return nil, fmt.Errorf("scale: %s, %d of them: %w", axis.Name, n, err)
					}
					points = append(points, Point{axis.Name, n, ours, round, each})
				}
			}
		}
	}
	return points, nil
}

// warm connects what the axis uses.
func (a *Axis) warm(ctx context.Context) error {
	if a.run == nil {
		return nil
	}
	n := 100 // enough for all connections and databases, and no more than there are
	if a.Name == Databases {
		n = databases
	}
	return errors.Join(a.run(ctx, n, false), a.run(ctx, n, true))
}

func (a *Axis) measure(ctx context.Context, n int, ours bool) (float64, error) {
	if a.each != nil {
		return a.each(n, ours), nil
	}
	times := 0
	start := time.Now()
	for time.Since(start) < least {
		if err := a.run(ctx, n, ours); err != nil {
			return 0, err
		}
		times++
	}
	return float64(time.Since(start)) / float64(times) / float64(n), nil
}

// Growth is the exponent with which the whole cost grows from the smaller of
// two sizes to the larger: 1 is linear, and less is better.
func Growth(small, large int, smallEach, largeEach float64) float64 {
	return 1 + math.Log(largeEach/smallEach)/math.Log(float64(large)/float64(small))
}

// Names lists the axes in the order of the measurements.
func Names(points []Point) (names []string) {
	for _, p := range points {
		if !slices.Contains(names, p.Axis) {
			names = append(names, p.Axis)
		}
	}
	return names
}
