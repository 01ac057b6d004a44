package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

// The cell of most tables.
const (
	mainClients = 64
	mainConns   = 16
)

func mainCell(db, work string) stage.Cell {
	return stage.Cell{DB: db, Work: work, Clients: mainClients, Conns: mainConns}
}

// at are the rounds of a cell.
func (r *Report) at(c stage.Cell) (rounds []stage.Round) {
	for _, one := range r.Rounds {
		if one.Cell == c {
			rounds = append(rounds, one)
		}
	}
	return rounds
}

// cells are those that were measured and that match, in their order.
func (r *Report) cells(match func(stage.Cell) bool) (cells []stage.Cell) {
	for _, one := range r.Rounds {
		if match(one.Cell) && !slices.Contains(cells, one.Cell) {
			cells = append(cells, one.Cell)
		}
	}
	return cells
}

// present are the subjects that were measured in one of the cells, in the
// order of the tables.
func (r *Report) present(db string, cells ...stage.Cell) []string {
	return slices.DeleteFunc(subject.Names(db), func(name string) bool {
		return !slices.ContainsFunc(r.Rounds, func(one stage.Round) bool {
			return one.Subject == name && slices.Contains(cells, one.Cell)
		})
	})
}

// title names a kind of request.
func title(work string) string {
	return map[string]string{"read": "one read", "write": "one write", "mixed": "five reads and three writes"}[work]
}

// table is one of Markdown.
type table struct{ b strings.Builder }

func newTable(columns ...string) *table {
	t := &table{}
	t.row(columns...)
	t.b.WriteString("|" + strings.Repeat("---|", len(columns)) + "\n")
	return t
}

func (t *table) row(cells ...string) {
	t.b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func (t *table) String() string { return t.b.String() }

func micros(ns float64) string { return number(ns / float64(time.Microsecond)) }
func millis(ns float64) string { return number(ns / float64(time.Millisecond)) }

// number has three digits or more.
func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// spread has its quartiles behind it.
func spread(s stage.Spread, measured bool) string {
	if !measured {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High)
}

// median of what was measured, as a text.
func median(m stage.Measure, rounds []stage.Round, name string, format func(float64) string) string {
	s, measured := m.Of(rounds, name)
	if !measured {
		return ""
	}
	return format(s.Median)
}

// ratio is the median of the ratios alone.
func ratio(m stage.Measure, rounds []stage.Round, name, to string) string {
	s, measured := m.Ratio(rounds, name, to)
	if !measured {
		return ""
	}
	return fmt.Sprintf("%.2f", s.Median)
}

// latency is such as "+0.5 ms".
func latency(d time.Duration) string {
	if d == 0 {
		return "loopback"
	}
	return "+" + strconv.FormatFloat(d.Seconds()*1000, 'g', -1, 64) + " ms"
}
