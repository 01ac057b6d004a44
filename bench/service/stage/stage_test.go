package stage_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
	"github.com/dbscope/dbscope/internal/check"
)

var ok = check.OK

func TestMain(m *testing.M) {
	stage.ServeIfAsked()
	os.Exit(m.Run())
}

func TestACellIsMeasuredFromTheClientToTheDatabase(t *testing.T) {
	for _, db := range []string{subject.Postgres, subject.MariaDB} {
		t.Run(db, func(t *testing.T) {
			running, err := stage.Open(db, false)
			ok(t, err)
			defer func() { ok(t, running.Close()) }()
			base, profiles := subject.Baseline(db), t.TempDir()
			plan := stage.Plan{
				Cell:     stage.Cell{DB: db, Work: "mixed", Clients: 3, Conns: 2},
				Subjects: []string{base, "sqlscope"}, Rounds: 2, Duration: 100 * time.Millisecond, Profile: profiles,
			}
			rounds, err := running.Run(plan)
			ok(t, err)
			if len(rounds) != 4 {
				t.Errorf("got %d rounds", len(rounds))
			}
			for _, r := range rounds {
				if r.Requests < 3 || r.PerSecond <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.ServiceCPU <= 0 || r.DatabaseCPU <= 0 || r.Allocs < 10 || r.Bytes < 100 {
					t.Errorf("got %+v", r)
				}
			}
			if table := stage.Table(rounds); !strings.Contains(table, base) || !strings.Contains(table, "sqlscope") {
				t.Errorf("got the table\n%s", table)
			}
			for _, kind := range []string{"cpu", "allocs"} {
				files, _ := filepath.Glob(filepath.Join(profiles, "*."+kind)) // the pattern is valid
				if len(files) != 2 {
					t.Errorf("profiles of %s: %q", kind, files)
				}
			}

			plan.Latency, plan.Profile = 10*time.Millisecond, ""
			rounds, err = running.Run(plan)
			ok(t, err)
			for _, r := range rounds {
				if trips := 8; r.P50 < time.Duration(trips)*plan.Latency {
					t.Errorf("%s: eight statements with %v of latency took %v", r.Subject, plan.Latency, r.P50)
				}
			}
			plan.Latency, plan.Rate = 0, 200
			rounds, err = running.Run(plan)
			ok(t, err)
			for _, r := range rounds {
				if r.Requests != 20 {
					t.Errorf("%s: %d requests at 200 a second in 100 ms", r.Subject, r.Requests)
				}
			}
		})
	}
}

func TestASubjectThatIsNotKnownIsNamed(t *testing.T) {
	running, err := stage.Open(subject.Postgres, false)
	ok(t, err)
	defer func() { ok(t, running.Close()) }()
	_, err = running.Run(stage.Plan{Cell: stage.Cell{DB: subject.Postgres, Work: "read", Clients: 1, Conns: 1}, Subjects: []string{"nothing"}, Rounds: 1})
	if err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
	if _, err := stage.Open("oracle", false); err == nil || !strings.Contains(err.Error(), "oracle") {
		t.Errorf("got %v", err)
	}
}

func TestLatencyIsAddedToARoundTrip(t *testing.T) {
	for _, latency := range []time.Duration{0, 500 * time.Microsecond, 3 * time.Millisecond} {
		took, err := stage.RoundTrip(latency)
		ok(t, err)
		if took < latency {
			t.Errorf("with %v a round trip took %v", latency, took)
		}
		t.Logf("with %v a round trip takes %v", latency, took)
	}
}

func TestRoundsAreReadAsTheyWereWritten(t *testing.T) {
	rounds := []stage.Round{{
		Cell:    stage.Cell{DB: "postgres", Work: "read", Clients: 64, Conns: 16, Latency: 500 * time.Microsecond, Rate: 12.5},
		Subject: "pgxscope, ExecCommit", Round: 3, Requests: 17, PerSecond: 123.4, P50: 1234 * time.Nanosecond, P99: time.Second,
		ServiceCPU: 80 * time.Microsecond, DatabaseCPU: 40500 * time.Nanosecond, Allocs: 52.25, Bytes: 4711,
	}, {}}
	var file bytes.Buffer
	ok(t, stage.WriteCSV(&file, rounds))
	got, err := stage.ReadCSV(&file)
	ok(t, err)
	check.Equal(t, "rounds", got, rounds...)
	if _, err := stage.ReadCSV(strings.NewReader("a,b\n1,2\n")); err == nil {
		t.Error("another file was read")
	}
	ok(t, stage.WriteBench(&file, rounds[:1]))
	if line := file.String(); !strings.HasPrefix(line, "BenchmarkService/db=postgres/work=read/") || !strings.Contains(line, " 17 120500 cpu-ns/op ") {
		t.Errorf("got %s", line)
	}
}

func TestRatiosArePairedByRound(t *testing.T) {
	var rounds []stage.Round
	for i, load := range []float64{1, 10, 2} { // the machine is slower in one round
		rounds = append(rounds, stage.Round{Subject: "a", Round: i, Allocs: 4 * load}, stage.Round{Subject: "b", Round: i, Allocs: 2 * load})
	}
	got, measured := stage.Allocs.Ratio(rounds, "b", "a")
	if want := (stage.Spread{Low: 0.5, Median: 0.5, High: 0.5}); got != want || !measured {
		t.Errorf("got %v, %v", got, measured)
	}
	if _, measured := stage.Allocs.Ratio(rounds, "c", "a"); measured {
		t.Error("c was not measured")
	}
	if got, want := stage.SpreadOf([]float64{4, 1, 3, 2}), (stage.Spread{Low: 1.75, Median: 2.5, High: 3.25}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
