package report

import (
	"image/color"
	"math"
	"slices"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
)

// plotCPU has a bar for each subject: the service's part and the database's.
func (r *Report) plotCPU() (panels []*plot.Plot, err error) {
	var cells []stage.Cell
	for _, work := range subject.Works {
		cells = append(cells, mainCell(subject.Postgres, work))
	}
	names := r.present(subject.Postgres, cells...)
	slices.Reverse(names) // the first is on top
	for i, cell := range cells {
		var service, database plotter.Values
		for _, name := range names { // one that was not measured has no bar
			s, _ := stage.ServiceCPU.Of(r.at(cell), name)
			d, _ := stage.DatabaseCPU.Of(r.at(cell), name)
			service, database = append(service, s.Median/1000), append(database, d.Median/1000)
		}
		p := newPlot(title(cell.Work), "CPU time of a request, µs", "")
		below, err := bars(service, color.RGBA{0, 114, 178, 255})
		if err != nil {
			return nil, err
		}
		above, err := bars(database, color.RGBA{190, 190, 190, 255})
		if err != nil {
			return nil, err
		}
		above.StackOn(below)
		p.Add(below, above)
		p.Y.Min, p.Y.Max, p.X.Min = -0.7, float64(len(names))+0.9, 0 // room for the legend
		p.Legend.Left = false
		if i == 0 {
			p.NominalY(names...)
		} else {
			p.NominalY(make([]string, len(names))...)
		}
		if i == len(cells)-1 {
			p.Legend.Add("service", below)
			p.Legend.Add("database", above)
		}
		panels = append(panels, p)
	}
	return panels, nil
}

func bars(values plotter.Values, c color.Color) (*plotter.BarChart, error) {
	b, err := plotter.NewBarChart(values, 11)
	if err != nil {
		return nil, err
	}
	b.Horizontal, b.Color, b.LineStyle.Width = true, c, 0
	return b, nil
}

// plotLatency has the time of a request of one client.
func (r *Report) plotLatency() ([]*plot.Plot, error) {
	return r.each(func(work string) (*plot.Plot, error) {
		p := newPlot(title(work), "latency added, ms", "time of a request, ms")
		cells := r.cells(func(c stage.Cell) bool {
			return c.DB == subject.Postgres && c.Work == work && c.Clients == 1 && c.Rate == 0 && c.Conns == mainConns
		})
		return p, r.lines(p, cells, stage.P50, float64(time.Millisecond), func(c stage.Cell) float64 { return c.Latency.Seconds() * 1000 })
	})
}

// plotClients has the throughput.
func (r *Report) plotClients() ([]*plot.Plot, error) {
	return r.each(func(work string) (*plot.Plot, error) {
		p := newPlot(title(work), "clients, on loopback", "requests/s, thousands")
		logarithmic(&p.X, 1, 16, 64, 256)
		cells := r.cells(func(c stage.Cell) bool {
			return c.DB == subject.Postgres && c.Work == work && c.Latency == 0 && c.Rate == 0 && c.Clients != poolClients
		})
		slices.SortFunc(cells, func(a, b stage.Cell) int { return a.Clients - b.Clients })
		return p, r.lines(p, cells, stage.PerSecond, 1000, func(c stage.Cell) float64 { return float64(c.Clients) })
	})
}

// plotRate has the open loops.
func (r *Report) plotRate() ([]*plot.Plot, error) {
	return r.each(func(work string) (*plot.Plot, error) {
		cells := r.cells(func(c stage.Cell) bool { return c.Work == work && c.Rate > 0 })
		if len(cells) == 0 {
			return nil, nil
		}
		p := newPlot(title(work), "requests due a second", "p99, ms")
		return p, r.lines(p, cells, stage.P99, float64(time.Millisecond), func(c stage.Cell) float64 { return c.Rate })
	})
}

// each makes a panel for each kind of request that has one.
func (r *Report) each(panel func(work string) (*plot.Plot, error)) (panels []*plot.Plot, err error) {
	for _, work := range subject.Works {
		p, err := panel(work)
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		if len(panels) > 0 {
			p.Legend = plot.NewLegend() // the first has it for all
		}
		panels = append(panels, p)
	}
	return panels, nil
}

// lines draws a figure of all subjects that were measured in the cells.
func (r *Report) lines(p *plot.Plot, cells []stage.Cell, m stage.Measure, unit float64, x func(stage.Cell) float64) error {
	p.Y.Min = 0
	highest := 0.0
	for _, name := range r.present(subject.Postgres, cells...) {
		if !slices.Contains(few, name) {
			continue
		}
		var values plotter.XYs
		for _, c := range cells {
			if s, measured := m.Of(r.at(c), name); measured {
				values = append(values, plotter.XY{X: x(c), Y: s.Median / unit})
				highest = max(highest, s.Median/unit)
			}
		}
		if err := line(p, name, lookOf(name), values); err != nil {
			return err
		}
	}
	if len(cells) > 0 && !subject.Does(subject.ExecCommit, cells[0].Work) {
		p.Legend.Add(subject.ExecCommit, lookOf(subject.ExecCommit).line()) // for the panels that have it
	}
	p.Y.Max = highest * 1.6 // room for the legend
	return nil
}

// plotGrowth has what each of many costs.
func (r *Report) plotGrowth() ([]*plot.Plot, error) {
	colors := []color.Color{
		color.RGBA{0, 114, 178, 255},
		color.RGBA{213, 94, 0, 255},
		color.RGBA{0, 158, 115, 255},
		color.RGBA{204, 121, 167, 255},
		color.RGBA{0, 0, 0, 255},
	}
	p := newPlot("dashed: by hand", "how many", "each, µs")
	for i, name := range r.axes() {
		sizes := r.axis(name)
		if sizes[0].Bytes {
			continue
		}
		var ours, byHand plotter.XYs
		for _, s := range sizes {
			ours = append(ours, plotter.XY{X: float64(s.N), Y: s.Ours.Median / 1000})
			if s.Hand != nil {
				byHand = append(byHand, plotter.XY{X: float64(s.N), Y: s.Hand.Median / 1000})
			}
		}
		l := look{color: colors[i%len(colors)]}
		if err := line(p, name, l, ours); err != nil {
			return nil, err
		}
		l.dashes = lookOf("pgx by hand").dashes
		if err := line(p, "", l, byHand); err != nil {
			return nil, err
		}
	}
	logarithmic(&p.X, 1, 10, 100, 1000, 10_000, 100_000)
	p.Y.Scale = plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	p.Y.Max *= 30 // room for the legend
	return []*plot.Plot{p}, nil
}

// logarithmic gives an axis a logarithmic scale with these values at it.
func logarithmic(axis *plot.Axis, values ...float64) {
	axis.Scale = plot.LogScale{}
	var ticks []plot.Tick
	for _, v := range values {
		label := strconv.FormatFloat(v, 'f', -1, 64)
		if v >= 10_000 {
			label = strconv.FormatFloat(math.Round(v/1000), 'f', -1, 64) + "k"
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	axis.Tick.Marker = plot.ConstantTicks(ticks)
}
