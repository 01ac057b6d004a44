// Service compares services that answer requests from a database, by hand and
// with libraries, and prints tables:
//
//	go run ./bench/service
//	go run ./bench/service -cells 'read' -clients 1,64 -latency 0,1ms -rounds 9
//	go run ./bench/service -cells 'read/pgx' -profile profiles
//	go run ./bench/service -cells 'mixed/observed' -rate 2000 -duration 1m -heap 10s
//
// Two versions of dbscope are compared in turn, in one run, with a program that
// was built of the earlier one:
//
//	go build -o before ./bench/service # at the earlier commit
//	go run ./bench/service -cells 'read/pgxscope$' -before ./before
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are the program's flags.
type options struct {
	cells, dbs, clients, latency, file, before, profile string
	rate                                                float64
	conns, rounds                                       int
	duration, heap                                      time.Duration
	durable                                             bool
}

func parse(args []string) (o options) {
	flags := flag.NewFlagSet("service", flag.ExitOnError)
	flags.StringVar(&o.cells, "cells", "", "measure what matches this `regexp` of work/subject, such as read/pgxscope, and what it is compared with")
	flags.StringVar(&o.dbs, "db", "postgres", "a `list` of databases")
	flags.StringVar(&o.clients, "clients", "64", "a `list` of numbers of clients")
	flags.StringVar(&o.latency, "latency", "0", "a `list` of latencies that are added to a round trip to the database")
	flags.Float64Var(&o.rate, "rate", 0, "requests a second of an open loop, 0 for a closed one")
	flags.IntVar(&o.conns, "conns", 16, "connections of each pool")
	flags.IntVar(&o.rounds, "rounds", 15, "how often each subject has its turn")
	flags.DurationVar(&o.duration, "duration", 200*time.Millisecond, "how long each turn is")
	flags.BoolVar(&o.durable, "durable", false, "commits wait for the disk")
	flags.StringVar(&o.before, "before", "", "a `program` of an earlier commit, made by go build: each subject of ours is compared with that of the program")
	flags.DurationVar(&o.heap, "heap", 0, "print the heaps of the services, after a garbage collection, at this interval: each has one turn")
	flags.StringVar(&o.file, "out", "", "a `file` for all rounds: x.csv, or x.txt for benchstat")
	flags.StringVar(&o.profile, "profile", "", "a `folder` for profiles of the services, CPU and allocations")
	_ = flags.Parse(args) // it exits
	return o
}

func run(args []string, out io.Writer) error {
	o := parse(args)
	wanted, err := regexp.Compile(o.cells)
	if err != nil {
		return err
	}
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return err
		}
	}
	var all []stage.Round
	for db := range strings.SplitSeq(o.dbs, ",") {
		cells, err := cross(db, o.clients, o.latency)
		if err != nil {
			return err
		}
		rounds, err := measure(out, db, o, cells, func(c stage.Cell) stage.Plan {
			c.Conns, c.Rate = o.conns, o.rate
			return stage.Plan{
				Cell: c, Subjects: selected(db, c.Work, wanted, o.before != ""), Earlier: o.before,
				Rounds: o.rounds, Duration: o.duration, Profile: o.profile,
			}
		})
		if err != nil {
			return err
		}
		all = append(all, rounds...)
	}
	if o.file == "" {
		return nil
	}
	return store(o.file, all)
}

// store writes the rounds as the file's name asks for it.
func store(name string, rounds []stage.Round) error {
	write := stage.WriteCSV
	if filepath.Ext(name) == ".txt" {
		write = stage.WriteBench
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(file, rounds), file.Close())
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
func measure(out io.Writer, db string, o options, cells []stage.Cell, plan func(stage.Cell) stage.Plan) (all []stage.Round, err error) {
	running, err := stage.Open(db, o.durable)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, running.Close()) }()
	for _, c := range cells {
		p := plan(c)
		if len(p.Subjects) == 0 {
			continue
		}
		rounds, table, err := turns(running, p, o.heap)
		if err != nil {
			return nil, err
		}
		all = append(all, rounds...)
		_, _ = fmt.Fprintln(out, table)
	}
	return all, nil
}

// turns measures a cell, and returns its table.
func turns(running *stage.Stage, p stage.Plan, heap time.Duration) ([]stage.Round, string, error) {
	if heap > 0 {
		heaps, rounds, err := running.Heaps(p, heap)
		if err != nil {
			return nil, "", err
		}
		return rounds, stage.HeapTable(heaps, rounds), nil
	}
	rounds, err := running.Run(p)
	if err != nil {
		return nil, "", err
	}
	return rounds, stage.Table(rounds), nil
}

// selected are the subjects that match, those they are compared with, and where
// asked for what ours were before.
func selected(db, work string, wanted *regexp.Regexp, before bool) (names []string) {
	all := slices.DeleteFunc(subject.Names(db), func(name string) bool { return !subject.Does(name, work) })
	match := func(name string) bool { return wanted.MatchString(work + "/" + name) }
	for _, name := range all {
		compared := slices.ContainsFunc(all, func(other string) bool {
			return match(other) && (name == subject.Baseline(db) || name == subject.ByHand(other))
		})
		if match(name) || compared {
			names = append(names, name)
		}
		if match(name) && before && subject.Ours(name) {
			names = append(names, name+stage.Before)
		}
	}
	return names
}
