package stage

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dbscope/dbscope/bench/service/subject"
)

// Spread is a median with the quartiles around it.
type Spread struct{ Low, Median, High float64 }

// SpreadOf needs at least one value.
func SpreadOf(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	at := func(share float64) float64 { // between two values in proportion
		x := share * float64(len(v)-1)
		i := int(x)
		if i+1 == len(v) {
			return v[i]
		}
		return v[i] + (x-float64(i))*(v[i+1]-v[i])
	}
	return Spread{at(0.25), at(0.5), at(0.75)}
}

func (s Spread) String() string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Low, s.High) }

// Measure is one of the figures of a round.
type Measure func(Round) float64

// The figures.
var (
	PerSecond   Measure = func(r Round) float64 { return r.PerSecond }
	P50         Measure = func(r Round) float64 { return float64(r.P50) }
	P99         Measure = func(r Round) float64 { return float64(r.P99) }
	ServiceCPU  Measure = func(r Round) float64 { return float64(r.ServiceCPU) }
	DatabaseCPU Measure = func(r Round) float64 { return float64(r.DatabaseCPU) }
	TotalCPU    Measure = func(r Round) float64 { return float64(r.TotalCPU()) }
	Allocs      Measure = func(r Round) float64 { return r.Allocs }
	Bytes       Measure = func(r Round) float64 { return r.Bytes }
)

// Of is a figure of a subject in all rounds of one cell.
func (m Measure) Of(rounds []Round, name string) (s Spread, measured bool) {
	var all []float64
	for _, r := range rounds {
		if r.Subject == name {
			all = append(all, m(r))
		}
	}
	if len(all) == 0 {
		return s, false
	}
	return SpreadOf(all), true
}

// Ratio compares two subjects in each round of one cell: what slows a round
// down slows both.
func (m Measure) Ratio(rounds []Round, name, to string) (s Spread, measured bool) {
	base := map[int]float64{}
	for _, r := range rounds {
		if r.Subject == to {
			base[r.Round] = m(r)
		}
	}
	var all []float64
	for _, r := range rounds {
		if b, ok := base[r.Round]; ok && r.Subject == name {
			all = append(all, m(r)/b)
		}
	}
	if len(all) == 0 {
		return s, false
	}
	return SpreadOf(all), true
}

// Table prints one cell.
func Table(rounds []Round) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	cell := rounds[0].Cell
	base := subject.Baseline(cell.DB)
	_, _ = fmt.Fprintf(w, "%v\trequests/s\tof %s\tp50, µs\tp99, µs\tCPU of service, µs\tof its by hand\twith database, µs\tof %s\tallocs\tbytes\t\n", cell, base, base)
	for _, name := range subject.Names(cell.DB) {
		row(w, rounds, name, base, subject.ByHand(name))
		row(w, rounds, name+Before, base, subject.ByHand(name))
	}
	_ = w.Flush() // to memory
	for _, name := range subject.Names(cell.DB) {
		against(&out, rounds, name)
		before := name + Before
		total, measured := TotalCPU.Ratio(rounds, name, before)
		if !measured {
			continue
		}
		perSecond, _ := PerSecond.Ratio(rounds, name, before)
		service, _ := ServiceCPU.Ratio(rounds, name, before)
		_, _ = fmt.Fprintf(&out, "%s against before: requests/s %v, CPU of the service %v, with the database %v\n", name, perSecond, service, total)
	}
	return out.String()
}

// against compares subjects with another one of ours.
func against(out io.Writer, rounds []Round, name string) {
	to := subject.ByHand(name)
	perSecond, measured := PerSecond.Ratio(rounds, name, to)
	if !measured || !subject.Ours(to) {
		return
	}
	p99, _ := P99.Ratio(rounds, name, to)
	service, _ := ServiceCPU.Ratio(rounds, name, to)
	_, _ = fmt.Fprintf(out, "%s against %s: requests/s %v, p99 %v, CPU of the service %v\n", name, to, perSecond, p99, service)
}

// row has a subject that was measured.
func row(w io.Writer, rounds []Round, name, base, byHand string) {
	if _, measured := Allocs.Of(rounds, name); !measured {
		return
	}
	median := func(m Measure) float64 {
		s, _ := m.Of(rounds, name)
		return s.Median
	}
	ratio := func(m Measure, to string) string {
		if s, measured := m.Ratio(rounds, name, to); measured && name != to {
			return s.String()
		}
		return ""
	}
	_, _ = fmt.Fprintf(w, "%s\t%.0f\t%s\t%.1f\t%.1f\t%.1f\t%s\t%.1f\t%s\t%.1f\t%.0f\t\n", name,
		median(PerSecond), ratio(PerSecond, base), micros(median(P50)), micros(median(P99)),
		micros(median(ServiceCPU)), ratio(ServiceCPU, byHand),
		micros(median(TotalCPU)), ratio(TotalCPU, base), median(Allocs), median(Bytes))
}

func micros(ns float64) float64 { return ns / float64(time.Microsecond) }
