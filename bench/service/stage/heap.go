package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dbscope/dbscope/bench/service/subject"
)

// Heap is what a service keeps at some time under a load.
type Heap struct {
	Subject    string
	At         time.Duration // since the load began
	Bytes      uint64        // that are in use after a garbage collection
	Goroutines int
}

// heap collects garbage, which stops nothing for long, and tells what is left.
func heap() Heap {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Heap{Bytes: m.HeapAlloc, Goroutines: runtime.NumGoroutine()}
}

// Heaps lets each subject of a plan answer for its duration, once, and looks at its heap
// before, at the interval, and after. It also returns what each has done.
func (s *Stage) Heaps(p Plan, every time.Duration) (heaps []Heap, rounds []Round, err error) {
	dsn, err := s.lead(p)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range p.Subjects {
		one, err := s.enter(p, subject.Config{Name: name, DB: p.DB, DSN: dsn, Conns: p.Conns})
		if err != nil {
			return nil, nil, fmt.Errorf("stage: %v, %s: %w", p.Cell, name, err)
		}
		seen, round, err := one.watched(p, every)
		if err = errors.Join(err, one.close()); err != nil {
			return nil, nil, fmt.Errorf("stage: %v, %s: %w", p.Cell, name, err)
		}
		heaps, rounds = append(heaps, seen...), append(rounds, round)
	}
	return heaps, rounds, nil
}

// watched is a turn of the subject's, with looks at its heap.
func (one *player) watched(p Plan, every time.Duration) (heaps []Heap, round Round, err error) {
	look := func(at time.Duration) error {
		h, err := one.service.heap()
		h.Subject, h.At = one.name, at
		heaps = append(heaps, h)
		return err
	}
	if err := look(0); err != nil {
		return nil, round, err
	}
	over, looked := make(chan struct{}), make(chan error)
	go func() {
		began, ticks := time.Now(), time.NewTicker(every)
		defer ticks.Stop()
		for {
			select {
			case <-over:
				looked <- nil
				return
			case <-ticks.C:
				if err := look(time.Since(began).Round(every)); err != nil {
					<-over
					looked <- err
					return
				}
			}
		}
	}()
	round, err = one.play(p)
	close(over)
	if err = errors.Join(err, <-looked); err == nil {
		err = look(p.Duration)
	}
	return heaps, round, err
}

func (p *process) heap() (h Heap, err error) {
	body, err := p.control(http.MethodGet, "/heap", nil)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(body, &h)
}

// HeapTable prints the heaps of one cell.
func HeapTable(heaps []Heap, rounds []Round) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "%v\tafter\theap, kB\tgoroutines\t\n", rounds[0].Cell)
	for _, h := range heaps {
		_, _ = fmt.Fprintf(w, "%s\t%v\t%.0f\t%d\t\n", h.Subject, h.At, float64(h.Bytes)/1000, h.Goroutines)
	}
	_ = w.Flush() // to memory
	for _, r := range rounds {
		_, _ = fmt.Fprintf(&out, "%s answered %d requests, %.0f a second, p50 %v, p99 %v\n", r.Subject, r.Requests, r.PerSecond, r.P50, r.P99)
	}
	return out.String()
}
