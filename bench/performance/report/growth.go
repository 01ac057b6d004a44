package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dbscope/dbscope/bench/performance/scale"
)

// axes are those that were measured, in their order.
func (r *Report) axes() (names []string) {
	for _, s := range r.Scale {
		if !slices.Contains(names, s.Axis) {
			names = append(names, s.Axis)
		}
	}
	return names
}

func (r *Report) axis(name string) (all []Scaled) {
	for _, s := range r.Scale {
		if s.Axis == name {
			all = append(all, s)
		}
	}
	return all
}

// Growth has what one of many costs, for each size, and how the whole grows.
func (r *Report) Growth() string {
	t := newTable("", "how many: what each costs", "by hand", "growth", "by hand")
	for _, name := range r.axes() {
		sizes := r.axis(name)
		var ours, hand []string
		for _, s := range sizes {
			ours = append(ours, fmt.Sprintf("%d: %s", s.N, s.text(s.Ours.Median)))
			if s.Hand != nil {
				hand = append(hand, s.text(s.Hand.Median))
			}
		}
		last, before := sizes[len(sizes)-1], sizes[max(0, len(sizes)-2)]
		growth := func(each func(Scaled) float64) string {
			return fmt.Sprintf("n<sup>%.2f</sup>", scale.Growth(before.N, last.N, each(before), each(last)))
		}
		byHand := ""
		if last.Hand != nil {
			byHand = growth(func(s Scaled) float64 { return s.Hand.Median })
		}
		t.row(name, strings.Join(ours, "<br>"), strings.Join(hand, "<br>"), growth(func(s Scaled) float64 { return s.Ours.Median }), byHand)
	}
	return t.String()
}

func (s Scaled) text(each float64) string {
	if s.Bytes {
		return number(each) + " bytes"
	}
	if each < float64(10*time.Microsecond) {
		return number(each/1000) + " µs"
	}
	return micros(each) + " µs"
}

// Profile says whose the CPU time of the service is.
func (r *Report) Profile(work string) string {
	var names []string
	for _, s := range r.Shares {
		if s.Work == work && !slices.Contains(names, s.Subject) {
			names = append(names, s.Subject)
		}
	}
	t := newTable(append([]string{title(work) + ", µs for each request"}, names...)...)
	sums := make([]float64, len(names))
	var seen []string
	for _, o := range owners {
		if slices.Contains(seen, o.owner) {
			continue
		}
		seen = append(seen, o.owner)
		row, any := []string{o.owner}, false
		for i, name := range names {
			text := ""
			for _, s := range r.Shares {
				if s.Work == work && s.Subject == name && s.Owner == o.owner {
					text, any = fmt.Sprintf("%.1f", s.Micros), true
					sums[i] += s.Micros
				}
			}
			row = append(row, text)
		}
		if any {
			t.row(row...)
		}
	}
	row := []string{"together"}
	for _, sum := range sums {
		row = append(row, fmt.Sprintf("%.1f", sum))
	}
	t.row(row...)
	return t.String()
}
