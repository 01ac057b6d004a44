package report

import (
	"bytes"
	"errors"
	"image/color"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/dbscope/dbscope/bench/service/subject"
)

// Write writes the page and its pictures into the folder of the documentation.
func (r *Report) Write(docs string) error {
	page, err := r.Page()
	if err != nil {
		return err
	}
	all := []error{
		os.MkdirAll(filepath.Join(docs, "img"), 0o755),
		os.WriteFile(filepath.Join(docs, "performance.md"), []byte(page), 0o644),
	}
	plots, err := r.Plots()
	if err != nil {
		return err
	}
	for name, picture := range plots {
		all = append(all, os.WriteFile(filepath.Join(docs, "img", name), picture, 0o644))
	}
	return errors.Join(all...)
}

// Plots draws the pictures. They have a white ground, so that they can be read
// on a dark page as well.
func (r *Report) Plots() (map[string][]byte, error) {
	plots := map[string][]byte{}
	for name, draw := range map[string]func() ([]*plot.Plot, error){
		"performance-cpu.svg":     r.plotCPU,
		"performance-latency.svg": r.plotLatency,
		"performance-clients.svg": r.plotClients,
		"performance-rate.svg":    r.plotRate,
		"performance-growth.svg":  r.plotGrowth,
	} {
		panels, err := draw()
		if err != nil {
			return nil, err
		}
		if plots[name], err = picture(panels); err != nil {
			return nil, err
		}
	}
	return plots, nil
}

// picture puts panels side by side.
func picture(panels []*plot.Plot) ([]byte, error) {
	const height, gap = 320, 14
	width := vg.Length(960)
	canvas := vgsvg.New(width, height)
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadX: gap, PadTop: 6, PadBottom: 6, PadLeft: 6, PadRight: gap}
	ground := draw.New(canvas)
	ground.SetColor(color.White)
	ground.Fill(ground.Path())
	for i, c := range plot.Align([][]*plot.Plot{panels}, tiles, ground)[0] {
		panels[i].Draw(c)
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	text := strings.ReplaceAll(out.String(), "Liberation Sans", "Liberation Sans, Arial, sans-serif")
	return []byte(text), nil
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	for _, style := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		style.Typeface, style.Variant, style.Size = "Liberation", "Sans", 11
	}
	p.Title.TextStyle.Font.Size, p.Legend.TextStyle.Font.Size = 13, 10
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.ThumbnailWidth = 22
	grid := plotter.NewGrid()
	grid.Vertical.Color = color.Transparent
	grid.Horizontal.Color = color.Gray{215}
	p.Add(grid)
	return p
}

// look is how a subject is drawn: colours that colour-blind people can tell
// apart, and dashes where transactions are none of ours.
type look struct {
	color  color.Color
	dashes []vg.Length
}

func lookOf(name string) look {
	dash := []vg.Length{5, 3}
	looks := map[string]look{
		"pgx by hand":          {color.RGBA{0, 0, 0, 255}, dash},
		"pgx, autocommit":      {color.RGBA{150, 150, 150, 255}, []vg.Length{2, 3}},
		subject.Avito:          {color.RGBA{230, 159, 0, 255}, dash},
		subject.Pgxscope:       {color.RGBA{0, 114, 178, 255}, nil},
		subject.ExecCommit:     {color.RGBA{86, 180, 233, 255}, nil},
		"database/sql by hand": {color.RGBA{110, 80, 40, 255}, dash},
		subject.PgxscopeSQL:    {color.RGBA{0, 158, 115, 255}, nil},
		subject.Sqlscope:       {color.RGBA{204, 121, 167, 255}, nil},
		"GORM by hand":         {color.RGBA{90, 60, 130, 255}, dash},
		"GORM over SQL()":      {color.RGBA{213, 94, 0, 255}, nil},
	}
	if l, found := looks[name]; found {
		return l
	}
	return look{color.Gray{100}, nil}
}

func (l look) line() *plotter.Line {
	return &plotter.Line{LineStyle: draw.LineStyle{Color: l.color, Dashes: l.dashes, Width: 1.6}}
}

// line adds one with a dot at each value.
func line(p *plot.Plot, name string, l look, values plotter.XYs) error {
	if len(values) == 0 {
		return nil
	}
	drawn, points, err := plotter.NewLinePoints(values)
	if err != nil {
		return err
	}
	drawn.LineStyle = l.line().LineStyle
	points.Color, points.Shape, points.Radius = l.color, draw.CircleGlyph{}, 2.2
	p.Add(drawn, points)
	if name != "" {
		p.Legend.Add(name, drawn)
	}
	return nil
}
