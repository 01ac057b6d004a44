// Package stage measures subjects: it runs a database, a service for each
// subject, each in processes of their own, and the clients in this one. So what
// the service and the database use can be told apart from what the load takes.
package stage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/dbscope/dbscope/bench/service/load"
	"github.com/dbscope/dbscope/bench/service/subject"
)

// Cell is a load under which subjects are compared.
type Cell struct {
	DB      string
	Work    string
	Clients int
	Conns   int           // of each subject's pool
	Latency time.Duration // added to each round trip between service and database
	Rate    float64       // requests a second of an open loop; 0 is a closed one
}

// String is such as "postgres, read, 64 clients, 16 connections, +1ms".
func (c Cell) String() string {
	text := fmt.Sprintf("%s, %s, %d clients, %d connections", c.DB, c.Work, c.Clients, c.Conns)
	if c.Latency > 0 {
		text += fmt.Sprintf(", +%v", c.Latency)
	}
	if c.Rate > 0 {
		text += fmt.Sprintf(", %.0f requests/s", c.Rate)
	}
	return text
}

// Round is what one subject did in one round of a cell.
type Round struct {
	Cell
	Subject  string
	Round    int
	Requests int

	PerSecond float64
	P50, P99  time.Duration
	// The rest is for each request.
	ServiceCPU, DatabaseCPU time.Duration
	Allocs, Bytes           float64
}

// TotalCPU is that of the service and of the database, for each request.
func (r Round) TotalCPU() time.Duration { return r.ServiceCPU + r.DatabaseCPU }

// Before is the end of the name of a subject that the program of an earlier
// commit serves.
const Before = ", before"

// Plan says how a cell is measured.
type Plan struct {
	Cell
	Subjects []string
	Earlier  string // the program of an earlier commit, for names that end with [Before]
	Rounds   int
	Duration time.Duration // of one subject's part of one round
	Profile  string        // a folder for profiles of the services, or ""
}

// ProfileOf is how the names of a subject's profiles begin; they end in .cpu and
// .allocs.
func (p Plan) ProfileOf(name string) string {
	return filepath.Join(p.Profile, unusual.ReplaceAllString(p.String()+"-"+name, "-"))
}

var unusual = regexp.MustCompile(`[^a-zA-Z0-9.]+`)

// Stage has a running database, and the services of the last plan.
type Stage struct {
	db       *database
	latency  time.Duration
	cable    *cable // that adds the latency, or nil
	services map[subject.Config]*process
}

// Open starts a database. Close removes it. Commits that are durable wait for
// the disk, whose speed changes by the minute and which is the same for all
// subjects.
func Open(db string, durable bool) (*Stage, error) {
	running, err := start(db, durable)
	if err != nil {
		return nil, err
	}
	return &Stage{db: running, services: map[subject.Config]*process{}}, nil
}

// Version is the name and version of the database, such as "PostgreSQL 17.5".
func (s *Stage) Version() string { return s.db.version }

// DSN is the connection string of the database with the table.
func (s *Stage) DSN() string { return s.db.dsn }

// Close stops all services and the database, and removes its data.
func (s *Stage) Close() error { return errors.Join(s.clear(0), s.db.remove()) }

// clear stops the services that have another number of connections.
func (s *Stage) clear(except int) error {
	var failed []error
	for config, service := range s.services {
		if config.Conns != except {
			failed = append(failed, service.stop())
			delete(s.services, config)
		}
	}
	if s.cable != nil && len(s.services) == 0 {
		failed = append(failed, s.cable.close())
		s.cable = nil
	}
	return errors.Join(failed...)
}

// lead returns the connection string with the plan's latency. The services of
// other plans go on where nothing but the clients differs.
func (s *Stage) lead(p Plan) (dsn string, err error) {
	keep := p.Conns
	if p.Latency != s.latency {
		keep = 0
	}
	if err := s.clear(keep); err != nil {
		return "", err
	}
	s.latency = p.Latency
	if p.Latency == 0 {
		return s.db.dsn, nil
	}
	if s.cable == nil {
		if s.cable, err = layCable(s.db.addr, p.Latency); err != nil {
			return "", err
		}
	}
	return strings.Replace(s.db.dsn, s.db.addr, s.cable.addr(), 1), nil
}

// Run measures the subjects of a cell in turn, in another order each round.
func (s *Stage) Run(p Plan) (rounds []Round, err error) {
	dsn, err := s.lead(p)
	if err != nil {
		return nil, err
	}
	var players []*player
	defer func() {
		for _, one := range players {
			err = errors.Join(err, one.close())
		}
	}()
	for _, name := range p.Subjects {
		one, err := s.enter(p, subject.Config{Name: name, DB: p.DB, DSN: dsn, Conns: p.Conns})
		if err != nil {
			return nil, fmt.Errorf("stage: %v, %s: %w", p.Cell, name, err)
		}
		players = append(players, one)
	}
	for i := range p.Rounds {
		order := rand.New(rand.NewPCG(1, uint64(i))).Perm(len(players))
		for _, k := range order {
			round, err := players[k].play(p)
			if err != nil {
				return nil, fmt.Errorf("stage: %v, %s: %w", p.Cell, p.Subjects[k], err)
			}
			round.Round = i
			rounds = append(rounds, round)
		}
	}
	return rounds, nil
}

// player is a subject that runs, with its clients.
type player struct {
	name     string
	dir      string // of the database
	service  *process
	clients  *load.Clients
	profiles string // the begin of the names of its profiles, or ""
}

// enter starts a service where it does not run, and lets it and the database
// become warm.
func (s *Stage) enter(p Plan, config subject.Config) (one *player, err error) {
	service := s.services[config]
	if service == nil {
		if service, err = startService(p.Earlier, config); err != nil {
			return nil, err
		}
		s.services[config] = service
	}
	one = &player{name: config.Name, dir: s.db.dir, service: service}
	if one.clients, err = load.Dial(service.at.Requests, p.Work, p.Clients); err != nil {
		return nil, err
	}
	if _, err = one.clients.Closed(max(p.Duration/4, 20*p.Latency)); err != nil {
		return nil, errors.Join(err, one.close())
	}
	if p.Profile != "" {
		one.profiles = p.ProfileOf(config.Name)
		if err := service.profile(one.profiles + ".cpu"); err != nil {
			return nil, errors.Join(err, one.close())
		}
	}
	return one, nil
}

func (one *player) close() error {
	var profiled error
	if one.profiles != "" {
		profiled = one.service.endProfile(one.profiles + ".allocs")
	}
	return errors.Join(profiled, one.clients.Close())
}

// play is one subject's part of one round. No request is under way before and
// after it.
func (one *player) play(p Plan) (r Round, err error) {
	before, err := one.used()
	if err != nil {
		return r, err
	}
	var did load.Result
	if p.Rate > 0 {
		did, err = one.clients.Open(p.Rate, p.Duration)
	} else {
		did, err = one.clients.Closed(p.Duration)
	}
	if err != nil {
		return r, err
	}
	after, err := one.used()
	if err != nil {
		return r, err
	}
	n := len(did.Times)
	return Round{
		Cell: p.Cell, Subject: one.name, Requests: n,
		PerSecond:   float64(n) / did.Took.Seconds(),
		P50:         did.Quantile(0.5),
		P99:         did.Quantile(0.99),
		ServiceCPU:  (after.CPU - before.CPU) / time.Duration(n),
		DatabaseCPU: (after.database - before.database) / time.Duration(n),
		Allocs:      float64(after.Allocs-before.Allocs) / float64(n),
		Bytes:       float64(after.Bytes-before.Bytes) / float64(n),
	}, nil
}

type bothUsed struct {
	usage
	database time.Duration
}

func (one *player) used() (u bothUsed, err error) {
	if u.usage, err = one.service.usage(); err != nil {
		return u, err
	}
	u.database, err = processorTime(one.dir)
	return u, err
}
