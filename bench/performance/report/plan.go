package report

import (
	"math"
	"slices"
	"time"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

// MainWeight is how many times the rounds of other cells the cells of the first
// tables have.
const MainWeight = 3

const openClients = 256

// Latencies are those that are added.
var Latencies = []time.Duration{0, 500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond}

// few are the subjects of the cells that are not in the first tables.
var few = []string{
	"pgx by hand", "pgx, autocommit", subject.Avito, subject.Pgxscope, subject.ExecCommit,
	"database/sql by hand", "database/sql, autocommit", subject.PgxscopeSQL, subject.Sqlscope,
}

// Plans are the cells of a database that the page needs, open loops excepted,
// each subject with the given number of rounds or, in the first tables, of
// three times that many.
func Plans(db string, rounds int, turn time.Duration) (plans []stage.Plan) {
	add := func(c stage.Cell, weight int, among []string) {
		var names []string
		for _, name := range subject.Names(db) {
			if subject.Does(name, c.Work) && slices.Contains(among, name) {
				names = append(names, name)
			}
		}
		plans = append(plans, stage.Plan{Cell: c, Subjects: names, Rounds: rounds * weight, Duration: turn})
	}
	// By latency, since services go on while it is the same.
	for _, l := range Latencies {
		for _, work := range subject.Works {
			for _, clients := range []int{1, 16, 64, 256} {
				c := stage.Cell{DB: db, Work: work, Clients: clients, Conns: mainConns, Latency: l}
				switch {
				case c == mainCell(db, work):
					add(c, MainWeight, subject.Names(db))
				case db == subject.MariaDB && (clients > 1 || work != "read"):
				case l == time.Millisecond && clients > 1:
				default:
					add(c, 1, few)
				}
			}
		}
	}
	if db == subject.Postgres {
		for _, conns := range []int{1, 2, 4, 8, 16, 32, 64, 100} {
			c := stage.Cell{DB: db, Work: "read", Clients: poolClients, Conns: conns}
			add(c, 1, []string{subject.Baseline(db), subject.Pgxscope})
		}
	}
	return plans
}

// OpenPlans are the open loops, at shares of what by hand can do as its closed
// loop in the report has shown.
func (r *Report) OpenPlans(rounds int, turn time.Duration) (plans []stage.Plan) {
	base := subject.Baseline(subject.Postgres)
	for _, work := range []string{"read", "write"} {
		most, measured := stage.PerSecond.Of(r.at(mainCell(subject.Postgres, work)), base)
		if !measured {
			continue
		}
		names := []string{base, subject.Avito, subject.Pgxscope}
		if work == "write" {
			names = append(names, subject.ExecCommit)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !subject.Does(name, work) })
		// Beyond what is possible, times would only say how long was measured.
		for _, share := range []float64{0.25, 0.5, 0.75} {
			c := mainCell(subject.Postgres, work)
			c.Clients, c.Rate = openClients, math.Round(most.Median*share/100)*100
			plans = append(plans, stage.Plan{Cell: c, Subjects: names, Rounds: rounds, Duration: turn})
		}
	}
	return plans
}

// ProfilePlans are those whose services are profiled.
func ProfilePlans(folder string) (plans []stage.Plan) {
	for _, work := range subject.Works {
		var names []string
		for _, name := range subject.Names(subject.Postgres) {
			profiled := []string{"pgx by hand", subject.Pgxscope, subject.ExecCommit, "database/sql by hand", subject.PgxscopeSQL, subject.Sqlscope}
			if subject.Does(name, work) && slices.Contains(profiled, name) {
				names = append(names, name)
			}
		}
		plans = append(plans, stage.Plan{
			Cell: mainCell(subject.Postgres, work), Subjects: names,
			Rounds: 6, Duration: 500 * time.Millisecond, Profile: folder,
		})
	}
	return plans
}

// Estimate is about how long plans take.
func Estimate(plans []stage.Plan) (sum time.Duration) {
	const enter, around = 50 * time.Millisecond, 15 * time.Millisecond
	for _, p := range plans {
		each := enter + p.Duration/4 + time.Duration(p.Rounds)*(p.Duration+around)
		sum += time.Duration(len(p.Subjects)) * each
	}
	return sum
}
