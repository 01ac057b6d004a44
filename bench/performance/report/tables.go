package report

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

// Subjects is what is compared.
func (r *Report) Subjects() string {
	t := newTable("", "is")
	for _, name := range everyName() {
		t.row(name, subject.About(name))
	}
	return t.String()
}

// everyName has the subjects of all databases once.
func everyName() []string {
	names := subject.Names(subject.Postgres)
	for _, name := range subject.Names(subject.MariaDB) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Main is the table with everything, of one kind of request.
func (r *Report) Main(db, work string) string {
	cell := mainCell(db, work)
	rounds, base := r.at(cell), subject.Baseline(db)
	t := newTable("", "requests/s", "of "+base, "p50, ms", "p99, ms", "CPU of the service, µs", "of the same by hand",
		"with the database, µs", "of "+base, "allocations", "bytes")
	for _, name := range r.present(db, cell) {
		whole := func(f float64) string { return fmt.Sprintf("%.0f", f) }
		perSecond, cpu, total := "", "", ""
		if name != base {
			perSecond = spread(stage.PerSecond.Ratio(rounds, name, base))
			total = spread(stage.TotalCPU.Ratio(rounds, name, base))
		}
		if hand := subject.ByHand(name); name != hand {
			cpu = spread(stage.ServiceCPU.Ratio(rounds, name, hand))
		}
		t.row(bold(name), median(stage.PerSecond, rounds, name, whole), perSecond,
			median(stage.P50, rounds, name, millis), median(stage.P99, rounds, name, millis),
			median(stage.ServiceCPU, rounds, name, micros), cpu, median(stage.TotalCPU, rounds, name, micros), total,
			median(stage.Allocs, rounds, name, whole), median(stage.Bytes, rounds, name, whole))
	}
	return t.String()
}

// bold marks ours.
func bold(name string) string {
	if subject.Ours(name) {
		return "**" + name + "**"
	}
	return name
}

// Far is the time of a request of one client, by latency.
func (r *Report) Far(db, work string) string {
	cells := r.cells(func(c stage.Cell) bool {
		return c.DB == db && c.Work == work && c.Clients == 1 && c.Rate == 0 && c.Conns == mainConns
	})
	base := subject.Baseline(db)
	header := []string{""}
	for _, c := range cells {
		header = append(header, latency(c.Latency)+": ms", "of "+base)
	}
	t := newTable(header...)
	for _, name := range r.present(db, cells...) {
		row := []string{bold(name)}
		for _, c := range cells {
			of := ""
			if name != base {
				of = spread(stage.P50.Ratio(r.at(c), name, base))
			}
			row = append(row, median(stage.P50, r.at(c), name, millis), of)
		}
		t.row(row...)
	}
	return t.String()
}

// Matrix has the throughput and the total CPU against by hand, for all
// latencies and numbers of clients.
func (r *Report) Matrix(db, name string) string {
	base, clients := subject.Baseline(db), []int{1, 16, 64, 256}
	header := []string{name, ""}
	for _, n := range clients {
		header = append(header, count(n, "client"))
	}
	t := newTable(header...)
	for _, work := range subject.Works {
		for _, l := range []time.Duration{0, 500 * time.Microsecond, 2 * time.Millisecond} {
			row, any := []string{title(work), latency(l)}, false
			for _, n := range clients {
				rounds := r.at(stage.Cell{DB: db, Work: work, Clients: n, Conns: mainConns, Latency: l})
				text := ratio(stage.PerSecond, rounds, name, base)
				if text != "" {
					any = true
					text += ", " + ratio(stage.TotalCPU, rounds, name, base)
				}
				row = append(row, text)
			}
			if any {
				t.row(row...)
			}
		}
	}
	return t.String()
}

// OpenLoop has the times at a rate, from when a request was to be sent.
func (r *Report) OpenLoop(work string) string {
	cells := r.cells(func(c stage.Cell) bool { return c.Work == work && c.Rate > 0 })
	if len(cells) == 0 {
		return ""
	}
	header := []string{title(work) + ": p50, p99 in ms"}
	for _, c := range cells {
		header = append(header, fmt.Sprintf("%.0f requests/s", c.Rate))
	}
	t := newTable(header...)
	for _, name := range r.present(subject.Postgres, cells...) {
		row := []string{bold(name)}
		for _, c := range cells {
			row = append(row, median(stage.P50, r.at(c), name, millis)+", "+median(stage.P99, r.at(c), name, millis))
		}
		t.row(row...)
	}
	return t.String()
}

// Pools has the throughput by the number of connections.
func (r *Report) Pools() string {
	cells := r.poolCells()
	base := subject.Baseline(subject.Postgres)
	t := newTable("connections", base+", requests/s", "p99, ms", subject.Pgxscope+", requests/s", "of by hand", "p99, ms")
	for _, c := range cells {
		rounds := r.at(c)
		whole := func(f float64) string { return fmt.Sprintf("%.0f", f) }
		t.row(strconv.Itoa(c.Conns), median(stage.PerSecond, rounds, base, whole), median(stage.P99, rounds, base, millis),
			median(stage.PerSecond, rounds, subject.Pgxscope, whole), spread(stage.PerSecond.Ratio(rounds, subject.Pgxscope, base)),
			median(stage.P99, rounds, subject.Pgxscope, millis))
	}
	return t.String()
}

// poolClients is how many clients pools of all sizes are measured with.
const poolClients = 128

func (r *Report) poolCells() []stage.Cell {
	return r.cells(func(c stage.Cell) bool { return c.Clients == poolClients })
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
