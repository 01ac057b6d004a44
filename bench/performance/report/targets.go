package report

import (
	"fmt"
	"time"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

// target is what dbscope is held to.
type target struct {
	what  string
	least bool // the limit is the least, else the most
	limit float64
	got   func(r *Report) (s stage.Spread, measured bool)
}

// of is the figure of one subject divided by that of another.
func of(m stage.Measure, c stage.Cell, name, by string) func(*Report) (stage.Spread, bool) {
	return func(r *Report) (stage.Spread, bool) { return m.Ratio(r.at(c), name, by) }
}

func alone(work string, latency time.Duration) stage.Cell {
	return stage.Cell{DB: subject.Postgres, Work: work, Clients: 1, Conns: mainConns, Latency: latency}
}

func targets() (all []target) {
	pg := func(work string) stage.Cell { return mainCell(subject.Postgres, work) }
	hand := subject.Baseline(subject.Postgres)
	all = []target{
		{"CPU with the database, 64 clients, one read: by hand against pgxscope", true, 1.10, of(stage.TotalCPU, pg("read"), hand, subject.Pgxscope)},
		{"the same, one write", true, 1.15, of(stage.TotalCPU, pg("write"), hand, subject.Pgxscope)},
		{"the same, one write with ExecCommit", true, 1.35, of(stage.TotalCPU, pg("write"), hand, subject.ExecCommit)},
		{"the same, five reads and three writes", true, 0.97, of(stage.TotalCPU, pg("mixed"), hand, subject.Pgxscope)},
		{"requests/s of 1 client, one read, loopback: pgxscope against by hand", true, 1.3, of(stage.PerSecond, alone("read", 0), subject.Pgxscope, hand)},
		{
			"the same at 1 ms, against autocommit", true, 0.95,
			of(stage.PerSecond, alone("read", time.Millisecond), subject.Pgxscope, "pgx, autocommit"),
		},
		{"time of 1 client at 1 ms, one read: pgxscope against by hand", false, 0.37, of(stage.P50, alone("read", time.Millisecond), subject.Pgxscope, hand)},
		{"the same, one write", false, 0.70, of(stage.P50, alone("write", time.Millisecond), subject.Pgxscope, hand)},
		{"the same, one write with ExecCommit", false, 0.38, of(stage.P50, alone("write", time.Millisecond), subject.ExecCommit, hand)},
	}
	statements := map[string]float64{"read": 1, "write": 1, "mixed": 8}
	for _, work := range subject.Works {
		for _, name := range []string{subject.Pgxscope, subject.PgxscopeSQL, subject.Sqlscope} {
			limit := 1.05
			if name == subject.Pgxscope {
				limit = 0.93
			}
			by := subject.ByHand(name)
			all = append(all,
				target{
					fmt.Sprintf("CPU of the service, 64 clients, %s: %s against %s", title(work), name, by), false, limit,
					of(stage.ServiceCPU, pg(work), name, by),
				},
				target{
					fmt.Sprintf("allocations, %s: %s, more than %s", title(work), name, by), false, 6 + 2*statements[work],
					more(stage.Allocs, pg(work), name, by),
				})
		}
	}
	return all
}

// more is the difference of two medians.
func more(m stage.Measure, c stage.Cell, name, than string) func(*Report) (stage.Spread, bool) {
	return func(r *Report) (s stage.Spread, measured bool) {
		a, is := m.Of(r.at(c), name)
		b, too := m.Of(r.at(c), than)
		d := a.Median - b.Median
		return stage.Spread{Low: d, Median: d, High: d}, is && too
	}
}

// Targets says which are met.
func (r *Report) Targets() string {
	t := newTable("", "target", "measured", "")
	for _, one := range targets() {
		s, measured := one.got(r)
		if !measured {
			continue
		}
		sign, met := "≤", s.Median <= one.limit
		if one.least {
			sign, met = "≥", s.Median >= one.limit
		}
		verdict := "met"
		if !met {
			verdict = "**missed**"
		}
		got := spread(s, true)
		if s.Low == s.High {
			got = fmt.Sprintf("%.1f", s.Median)
		}
		t.row(one.what, fmt.Sprintf("%s %.2f", sign, one.limit), got, verdict)
	}
	if got, verdict := r.againstAvito(); got != "" {
		t.row("CPU with the database, every cell: pgxscope against "+subject.Avito, "≤ 1.00", got, verdict)
	}
	return t.String()
}

func (r *Report) againstAvito() (got, verdict string) {
	cells := r.cells(func(c stage.Cell) bool { return c.DB == subject.Postgres && c.Rate == 0 })
	worst, where, more, all := 0.0, stage.Cell{}, 0, 0
	for _, c := range cells {
		s, measured := stage.TotalCPU.Ratio(r.at(c), subject.Pgxscope, subject.Avito)
		if !measured {
			continue
		}
		all++
		if s.Median > 1 {
			more++
		}
		if s.Median > worst {
			worst, where = s.Median, c
		}
	}
	if all == 0 {
		return "", ""
	}
	verdict = "met"
	if more > 0 {
		verdict = "**missed**"
	}
	return fmt.Sprintf("more in %d of %d; at most %.2f (%s)", more, all, worst, where), verdict
}

// Losses says where the work by hand with the same library takes less.
func (r *Report) Losses() string {
	t := newTable("", "request", "more CPU with the database than by hand", "most", "fewer requests/s than by hand", "least")
	for _, db := range []string{subject.Postgres, subject.MariaDB} {
		cells := r.cells(func(c stage.Cell) bool { return c.DB == db && c.Rate == 0 })
		for _, name := range r.present(db, cells...) {
			if !subject.Ours(name) {
				continue
			}
			for _, work := range subject.Works {
				cpu := r.losses(stage.TotalCPU, cells, work, name, func(s stage.Spread) bool { return s.Low > 1 }, func(a, b float64) bool { return a > b })
				rate := r.losses(stage.PerSecond, cells, work, name, func(s stage.Spread) bool { return s.High < 1 }, func(a, b float64) bool { return a < b })
				if cpu.all > 0 {
					t.row(name+", "+databaseName(db), title(work), cpu.count(), cpu.text(), rate.count(), rate.text())
				}
			}
		}
	}
	return t.String()
}

// lost counts the cells of a comparison with the work by hand.
type lost struct {
	cells, all int
	worst      stage.Spread
	where      stage.Cell
}

func (l lost) count() string { return fmt.Sprintf("%d of %d", l.cells, l.all) }

func (l lost) text() string {
	if l.cells == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f (%s)", l.worst.Median, circumstances(l.where))
}

// losses counts a cell as lost only where most of the rounds are.
func (r *Report) losses(m stage.Measure, cells []stage.Cell, work, name string, isLost func(stage.Spread) bool, worse func(a, b float64) bool) (l lost) {
	for _, c := range cells {
		s, measured := m.Ratio(r.at(c), name, subject.ByHand(name))
		if c.Work != work || !measured {
			continue
		}
		l.all++
		if !isLost(s) {
			continue
		}
		l.cells++
		if l.cells == 1 || worse(s.Median, l.worst.Median) {
			l.worst, l.where = s, c
		}
	}
	return l
}

// circumstances are a cell without its database and its kind of request.
func circumstances(c stage.Cell) string {
	text := fmt.Sprintf("%s, %s", count(c.Clients, "client"), latency(c.Latency))
	if c.Conns != mainConns {
		text += fmt.Sprintf(", pool of %d", c.Conns)
	}
	return text
}

func databaseName(db string) string {
	return map[string]string{subject.Postgres: "PostgreSQL", subject.MariaDB: "MariaDB"}[db]
}
