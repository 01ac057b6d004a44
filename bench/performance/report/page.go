package report

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

//go:embed page.md.tmpl
var pageText string

// Page is the text of docs/performance.md.
func (r *Report) Page() (string, error) {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = page.Execute(&out, r)
	return out.String(), err
}

// Short has what most readers look for.
func (r *Report) Short() string {
	base := subject.Baseline(subject.Postgres)
	t := newTable("against by hand with the same library", "request", "requests/s, 64 clients", "CPU of the service", "CPU with the database",
		"allocations", "time of 1 client, loopback", "at 1 ms")
	for _, name := range r.present(subject.Postgres, mainCell(subject.Postgres, "read"), mainCell(subject.Postgres, "write")) {
		if name == base || name == subject.ByHand(name) {
			continue
		}
		for _, work := range subject.Works {
			hand := subject.ByHand(name)
			rounds, near, far := r.at(mainCell(subject.Postgres, work)), r.at(alone(work, 0)), r.at(alone(work, 1e6))
			if _, measured := stage.Allocs.Of(rounds, name); !measured {
				continue
			}
			allocs, _ := more(stage.Allocs, mainCell(subject.Postgres, work), name, hand)(r)
			t.row(bold(name), title(work), ratio(stage.PerSecond, rounds, name, hand), ratio(stage.ServiceCPU, rounds, name, hand),
				ratio(stage.TotalCPU, rounds, name, hand), fmt.Sprintf("%+.0f", allocs.Median),
				ratio(stage.P50, near, name, hand), ratio(stage.P50, far, name, hand))
		}
	}
	return t.String()
}

// What the page asks for.

// Works are the kinds of requests.
func (r *Report) Works() []string { return subject.Works }

// Baseline is what PostgreSQL's subjects are compared with.
func (r *Report) Baseline() string { return subject.Baseline(subject.Postgres) }

// MainClients is the number of clients of most tables.
func (r *Report) MainClients() int { return mainClients }

// MainConns is the number of connections of most pools.
func (r *Report) MainConns() int { return mainConns }

// OpenClients is the number of clients of open loops.
func (r *Report) OpenClients() int { return openClients }

// PoolClients is the number of clients of pools of all sizes.
func (r *Report) PoolClients() int { return poolClients }

// MatrixNames are the subjects that were measured with all numbers of clients.
func (r *Report) MatrixNames() []string {
	cells := r.cells(func(c stage.Cell) bool { return c.DB == subject.Postgres && c.Clients == 256 && c.Rate == 0 })
	return slices.DeleteFunc(r.present(subject.Postgres, cells...), func(name string) bool { return !subject.Ours(name) })
}

// RoundsOfMain is how many rounds the first tables have.
func (r *Report) RoundsOfMain() int {
	return r.leastRounds(func(c stage.Cell) bool { return c == mainCell(c.DB, c.Work) })
}

// LeastRounds is how many rounds the other cells have, or more.
func (r *Report) LeastRounds() int { return r.leastRounds(func(stage.Cell) bool { return true }) }

func (r *Report) leastRounds(of func(stage.Cell) bool) int {
	rounds := map[stage.Cell]int{}
	for _, one := range r.Rounds {
		if of(one.Cell) {
			rounds[one.Cell] = max(rounds[one.Cell], one.Round+1)
		}
	}
	least := 0
	for _, n := range rounds {
		if least == 0 || n < least {
			least = n
		}
	}
	return least
}
