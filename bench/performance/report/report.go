// Package report prints what the benchmarks have measured as a page of the
// documentation, with its plots, and keeps the figures in files.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dbscope/dbscope/bench/performance/scale"
	"github.com/dbscope/dbscope/bench/service/stage"
)

// Report is all that one run has measured.
type Report struct {
	Run    Run
	Rounds []stage.Round `json:"-"` // in a file of their own
	Scale  []Scaled
	Shares []Share
}

// Run says where and how.
type Run struct {
	Processor, System, Go string
	Cores                 int
	Databases             []string // with their versions
	Took                  string
	Turn                  string // how long each subject's part of a round was
	Latencies             []Latency
	Note                  string `json:",omitempty"`
}

// Latency compares what was to be added to a round trip with what it took.
type Latency struct{ Added, Took string }

// Scaled is a size of one axis.
type Scaled struct {
	Axis       string
	N          int
	Bytes      bool
	Ours, Hand *stage.Spread `json:",omitempty"`
}

// The files of a report.
const (
	roundsFile = "rounds.csv"
	reportFile = "report.json"
)

// Save writes the figures into a folder.
func (r *Report) Save(dir string) error {
	var rounds bytes.Buffer
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return errors.Join(
		stage.WriteCSV(&rounds, r.Rounds),
		os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, roundsFile), rounds.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, reportFile), append(text, '\n'), 0o644))
}

// Load reads what Save has written.
func Load(dir string) (*Report, error) {
	text, err := os.ReadFile(filepath.Join(dir, reportFile))
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("report: %s: %w", reportFile, err)
	}
	rounds, err := os.ReadFile(filepath.Join(dir, roundsFile))
	if err != nil {
		return nil, err
	}
	r.Rounds, err = stage.ReadCSV(bytes.NewReader(rounds))
	return r, err
}

// Summarize makes spreads of points.
func Summarize(points []scale.Point) (all []Scaled) {
	type key struct {
		axis string
		n    int
	}
	at := map[key]int{}
	values := map[key]map[bool][]float64{}
	for _, p := range points {
		k := key{p.Axis, p.N}
		if values[k] == nil {
			values[k] = map[bool][]float64{}
			at[k] = len(all)
			all = append(all, Scaled{Axis: p.Axis, N: p.N, Bytes: p.Axis == scale.Open})
		}
		values[k][p.Ours] = append(values[k][p.Ours], p.Each)
	}
	for k, i := range at {
		if v := values[k][true]; len(v) > 0 {
			s := stage.SpreadOf(v)
			all[i].Ours = &s
		}
		if v := values[k][false]; len(v) > 0 {
			s := stage.SpreadOf(v)
			all[i].Hand = &s
		}
	}
	return all
}
