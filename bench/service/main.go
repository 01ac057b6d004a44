// Service compares services that answer requests from a database, by hand and
// with libraries, and prints tables:
//
//	go run ./bench/service
//	go run ./bench/service -cells 'read' -clients 1,64 -latency 0,1ms -rounds 9
//	go run ./bench/service -cells 'read/pgx' -profile /tmp/profiles
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

func main() {
	stage.ServeIfAsked()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var (
		cells    = flag.String("cells", "", "measure what matches this `regexp` of work/subject, such as read/pgxscope, and what it is compared with")
		dbs      = flag.String("db", "postgres", "a `list` of databases")
		clients  = flag.String("clients", "64", "a `list` of numbers of clients")
		latency  = flag.String("latency", "0", "a `list` of latencies that are added to a round trip to the database")
		rate     = flag.Float64("rate", 0, "requests a second of an open loop, 0 for a closed one")
		conns    = flag.Int("conns", 16, "connections of each pool")
		rounds   = flag.Int("rounds", 15, "how often each subject has its turn")
		duration = flag.Duration("duration", 200*time.Millisecond, "how long each turn is")
		out      = flag.String("out", "", "a `file` for all rounds, in JSON")
		profile  = flag.String("profile", "", "a `folder` for profiles of the services, CPU and allocations")
	)
	flag.Parse()
	wanted, err := regexp.Compile(*cells)
	if err != nil {
		return err
	}
	if *profile != "" {
		if err := os.MkdirAll(*profile, 0o755); err != nil {
			return err
		}
	}
	var all []stage.Round
	for db := range strings.SplitSeq(*dbs, ",") {
		cells, err := cross(db, *clients, *latency)
		if err != nil {
			return err
		}
		rounds, err := measure(db, cells, func(c stage.Cell) stage.Plan {
			c.Conns, c.Rate = *conns, *rate
			return stage.Plan{
				Cell: c, Subjects: selected(db, c.Work, wanted),
				Rounds: *rounds, Duration: *duration, Profile: *profile,
			}
		})
		if err != nil {
			return err
		}
		all = append(all, rounds...)
	}
	if *out == "" {
		return nil
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, append(text, '\n'), 0o644)
}

// cross has a cell for each kind of request, latency and number of clients.
func cross(db, clients, latencies string) (cells []stage.Cell, err error) {
	for _, work := range subject.Works {
		for l := range strings.SplitSeq(latencies, ",") {
			latency, err := time.ParseDuration(l)
			if err != nil {
				return nil, err
			}
			for c := range strings.SplitSeq(clients, ",") {
				n, err := strconv.Atoi(c)
				if err != nil {
					return nil, err
				}
				cells = append(cells, stage.Cell{DB: db, Work: work, Latency: latency, Clients: n})
			}
		}
	}
	return cells, nil
}

// measure prints a table of each cell that has subjects.
func measure(db string, cells []stage.Cell, plan func(stage.Cell) stage.Plan) (all []stage.Round, err error) {
	running, err := stage.Open(db)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, running.Close()) }()
	for _, c := range cells {
		p := plan(c)
		if len(p.Subjects) == 0 {
			continue
		}
		rounds, err := running.Run(p)
		if err != nil {
			return nil, err
		}
		all = append(all, rounds...)
		fmt.Println(stage.Table(rounds))
	}
	return all, nil
}

// selected are the subjects that match, and those they are compared with.
func selected(db, work string, wanted *regexp.Regexp) []string {
	names := subject.Names(db)
	match := func(name string) bool { return wanted.MatchString(work + "/" + name) }
	if !slices.ContainsFunc(names, match) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return !match(name) && !slices.ContainsFunc(names, func(other string) bool {
			return match(other) && (name == subject.Baseline(db) || name == subject.ByHand(other))
		})
	})
}
