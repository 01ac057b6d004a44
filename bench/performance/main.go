// Performance measures what docs/performance.md says, prints the page and draws
// its pictures:
//
//	go run ./bench/performance
//	go run ./bench/performance -print # the page anew, of the figures that are kept
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/dbscope/dbscope/bench/performance/report"
	"github.com/dbscope/dbscope/bench/performance/scale"
	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

func main() {
	stage.ServeIfAsked()
	var (
		budget  = flag.Duration("budget", 25*time.Minute, "about how long to measure")
		turn    = flag.Duration("turn", 200*time.Millisecond, "how long each subject's part of a round is")
		figures = flag.String("figures", "performance/figures", "the `folder` of the figures")
		docs    = flag.String("docs", "../docs", "the `folder` of the page")
		note    = flag.String("note", "", "a `sentence` about the run, for the page")
		only    = flag.Bool("print", false, "measure nothing")
	)
	flag.Parse()
	if err := run(*budget, *turn, *note, *figures, *docs, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(budget, turn time.Duration, note, figures, docs string, only bool) error {
	if !only {
		r, err := measure(budget, turn)
		if err != nil {
			return err
		}
		r.Run.Note = note
		if err := r.Save(figures); err != nil {
			return err
		}
	}
	r, err := report.Load(figures)
	if err != nil {
		return err
	}
	return r.Write(docs)
}

const (
	scaleRounds = 5
	leastRounds = 3
	// fixed is for what takes as long whatever the budget is.
	fixed = 2*time.Minute + 30*time.Second
)

// rounds finds how many rounds there is time for.
func rounds(budget, turn time.Duration) int {
	n := leastRounds
	for {
		all := report.Plans(subject.Postgres, n+1, turn)
		all = append(all, report.Plans(subject.MariaDB, n+1, turn)...)
		if fixed+report.Estimate(all)*11/10 > budget { // a tenth for the open loops
			return n
		}
		n++
	}
}

func measure(budget, turn time.Duration) (*report.Report, error) {
	start := time.Now()
	n := rounds(budget, turn)
	r := &report.Report{Run: report.Machine()}
	r.Run.Turn = turn.String()
	for _, l := range report.Latencies[1:] {
		took, err := stage.RoundTrip(l)
		if err != nil {
			return nil, err
		}
		r.Run.Latencies = append(r.Run.Latencies, report.Latency{Added: l.String(), Took: took.Round(10 * time.Microsecond).String()})
	}
	if err := onPostgres(r, n, turn); err != nil {
		return nil, err
	}
	if err := onMariaDB(r, n, turn); err != nil {
		return nil, err
	}
	r.Run.Took = fmt.Sprintf("%.0f minutes", time.Since(start).Minutes())
	return r, nil
}

func onPostgres(r *report.Report, n int, turn time.Duration) (err error) {
	db, err := stage.Open(subject.Postgres, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r.Run.Databases = append(r.Run.Databases, db.Version())
	if err := cells(r, db, report.Plans(subject.Postgres, n, turn)); err != nil {
		return err
	}
	if err := cells(r, db, r.OpenPlans(n, turn)); err != nil {
		return err
	}
	if err := profiles(r, db); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "how the cost of a unit grows")
	points, err := scale.Measure(context.Background(), db.DSN(), scaleRounds)
	r.Scale = report.Summarize(points)
	return err
}

func onMariaDB(r *report.Report, n int, turn time.Duration) (err error) {
	db, err := stage.Open(subject.MariaDB, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r.Run.Databases = append(r.Run.Databases, db.Version())
	return cells(r, db, report.Plans(subject.MariaDB, n, turn))
}

// cells measures, and says what is under way. Where the machine is slower than
// the estimate, the cells that are left have fewer rounds.
func cells(r *report.Report, db *stage.Stage, plans []stage.Plan) error {
	var took, estimated time.Duration
	for i, p := range plans {
		slower := 1.0
		if estimated > 0 {
			slower = max(1, took.Seconds()/estimated.Seconds())
		}
		left := report.Estimate(plans[i:])
		fmt.Fprintf(os.Stderr, "%v; these take another %v\n", p.Cell, left.Round(time.Second))
		estimated += report.Estimate(plans[i : i+1])
		p.Rounds = max(leastRounds, int(float64(p.Rounds)/slower))
		start := time.Now()
		rounds, err := db.Run(p)
		if err != nil {
			return err
		}
		took += time.Since(start)
		r.Rounds = append(r.Rounds, rounds...)
	}
	return nil
}

// profiles finds whose the CPU time of each request is.
func profiles(r *report.Report, db *stage.Stage) (err error) {
	folder, err := os.MkdirTemp("", "dbscope-profiles-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	for _, p := range report.ProfilePlans(folder) {
		fmt.Fprintf(os.Stderr, "profiles: %v\n", p.Cell)
		rounds, err := db.Run(p)
		if err != nil {
			return err
		}
		for _, name := range p.Subjects {
			s, _ := stage.ServiceCPU.Of(rounds, name)
			shares, err := report.Owners(p.Work, name, p.ProfileOf(name)+".cpu", s.Median/1000)
			if err != nil {
				return err
			}
			r.Shares = append(r.Shares, shares...)
		}
	}
	return nil
}
