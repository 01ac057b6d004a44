package report_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/dbscope/dbscope/bench/performance/report"
	"github.com/dbscope/dbscope/bench/performance/scale"
	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
	"github.com/dbscope/dbscope/internal/check"
)

var ok = check.OK

const docs = "../../../docs"

func TestThePageIsWhatItsFiguresSay(t *testing.T) {
	r, err := report.Load("../figures")
	ok(t, err)
	page, err := r.Page()
	ok(t, err)
	kept, err := os.ReadFile(filepath.Join(docs, "performance.md"))
	ok(t, err)
	if page != string(kept) {
		t.Error("docs/performance.md is not what bench/performance prints: go run ./performance -print, in bench")
	}
}

func TestEachPictureOfThePageIsDrawn(t *testing.T) {
	r, err := report.Load("../figures")
	ok(t, err)
	dir := t.TempDir()
	ok(t, r.Write(dir))
	page, err := os.ReadFile(filepath.Join(dir, "performance.md"))
	ok(t, err)
	pictures := 0
	for line := range strings.Lines(string(page)) {
		_, path, found := strings.Cut(line, "](img/")
		if !found {
			continue
		}
		pictures++
		path = "img/" + strings.TrimSuffix(strings.TrimSpace(path), ")")
		drawn, err := os.ReadFile(filepath.Join(dir, path))
		ok(t, err)
		if !bytes.Contains(drawn, []byte("#FFFFFF")) || !bytes.Contains(drawn, []byte("</svg>")) {
			t.Errorf("%s has no ground, or no end", path)
		}
		if _, err := os.Stat(filepath.Join(docs, path)); err != nil {
			t.Error(err)
		}
	}
	if files, _ := os.ReadDir(filepath.Join(dir, "img")); len(files) != pictures || pictures == 0 {
		t.Errorf("the page has %d pictures, %d were drawn", pictures, len(files))
	}
}

func TestAReportIsReadAsItWasStored(t *testing.T) {
	spread := stage.Spread{Low: 1, Median: 2, High: 3}
	r := &report.Report{
		Run:    report.Run{Cores: 2, Turn: "200ms"},
		Rounds: []stage.Round{{Cell: stage.Cell{DB: "postgres", Work: "read", Clients: 1}, Subject: "pgxscope", Requests: 3}},
		Scale:  []report.Scaled{{Axis: scale.Hooks, N: 10, Ours: &spread}},
		Shares: []report.Share{{Work: "read", Subject: "pgxscope", Owner: "dbscope", Micros: 1.5}},
	}
	dir := filepath.Join(t.TempDir(), "figures")
	ok(t, r.Save(dir))
	got, err := report.Load(dir)
	ok(t, err)
	check.Equal(t, "rounds", got.Rounds, r.Rounds...)
	check.Equal(t, "shares", got.Shares, r.Shares...)
	if got.Run.Turn != "200ms" || len(got.Scale) != 1 || *got.Scale[0].Ours != spread || got.Scale[0].Hand != nil {
		t.Errorf("got %+v", got)
	}
}

func TestEachPlanHasWhatItsSubjectsAreComparedWith(t *testing.T) {
	for _, db := range []string{subject.Postgres, subject.MariaDB} {
		plans := append(report.Plans(db, 3, time.Millisecond), report.ProfilePlans("profiles")...)
		seen := map[stage.Cell]bool{}
		for _, p := range plans {
			if seen[p.Cell] && p.Profile == "" {
				t.Errorf("%v is measured twice", p.Cell)
			}
			seen[p.Cell] = true
			for _, name := range append(p.Subjects, subject.Baseline(p.DB)) {
				if !subject.Does(name, p.Work) || subject.About(name) == "" {
					t.Errorf("%v: %s", p.Cell, name)
				}
				if hand := subject.ByHand(name); !slices.Contains(p.Subjects, hand) {
					t.Errorf("%v: %s without %s", p.Cell, name, hand)
				}
			}
		}
		if most := 15 * time.Minute; report.Estimate(plans) > most {
			t.Errorf("%s: plans with the fewest rounds take %v", db, report.Estimate(plans))
		}
	}
}

func TestCPUTimeBelongsToWhoCausesIt(t *testing.T) {
	const handler = "net/http.(*conn).serve"
	stacks := map[string][]string{ // the innermost function first
		"dbscope":                                     {"runtime.mallocgc", "context.WithValue", "github.com/dbscope/dbscope.Begin", "github.com/dbscope/dbscope/middleware/httpscope.serve", handler},
		"httpscope":                                   {"runtime.memmove", "github.com/dbscope/dbscope/middleware/httpscope.(*writer).Write", handler},
		"the driver and its pool":                     {"strconv.Itoa", "github.com/jackc/pgx/v5.(*Conn).Query", "github.com/dbscope/dbscope/driver/pgxscope.Query", handler},
		"system calls, to the database":               {"internal/runtime/syscall.Syscall6", "syscall.Write", "net.(*conn).Write", "github.com/jackc/pgx/v5/pgconn.flush", handler},
		"system calls, to the client":                 {"internal/runtime/syscall.Syscall6", "syscall.Write", "net.(*conn).Write", "net/http.checkConnErrorWriter.Write", handler},
		"garbage collection in the background":        {"runtime.scanobject", "runtime.gcBgMarkWorker"},
		"goroutines, timers, waiting for the network": {"runtime.futex", "runtime.findRunnable", "runtime.mcall"},
	}
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}}
	id := uint64(0)
	for _, stack := range stacks {
		sample := &profile.Sample{Value: []int64{1, 10}}
		for _, name := range stack {
			id++
			f := &profile.Function{ID: id, Name: name}
			l := &profile.Location{ID: id, Line: []profile.Line{{Function: f}}}
			p.Function, p.Location, sample.Location = append(p.Function, f), append(p.Location, l), append(sample.Location, l)
		}
		p.Sample = append(p.Sample, sample)
	}
	name := filepath.Join(t.TempDir(), "x.cpu")
	file, err := os.Create(name)
	ok(t, err)
	ok(t, p.Write(file))
	ok(t, file.Close())
	shares, err := report.Owners("read", "pgxscope", name, 70)
	ok(t, err)
	if len(shares) != len(stacks) {
		t.Errorf("got %+v", shares)
	}
	for _, s := range shares {
		if stacks[s.Owner] == nil || s.Micros != 10 {
			t.Errorf("got %+v", s)
		}
	}
}
