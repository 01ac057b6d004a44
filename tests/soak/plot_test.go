package soak_test

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// panel is one diagram of the plot.
type panel struct {
	title string
	value func(s, before sample) float64 // negative where there is none
	color string
}

var panels = []panel{
	{"requests a second", func(s, before sample) float64 {
		if s.quiet || before.quiet {
			return -1
		}
		return float64(s.requests-before.requests) / (s.at - before.at).Seconds()
	}, "#4c6a92"},
	{"heap in use after a collection, MB", func(s, _ sample) float64 { return float64(s.heap) / 1e6 }, "#b04a3a"},
	{"goroutines", func(s, _ sample) float64 { return float64(s.goroutines) }, "#5f7f3a"},
	{"open files", func(s, _ sample) float64 { return float64(s.files) }, "#8a6d1f"},
	{"sessions of PostgreSQL", func(s, _ sample) float64 { return float64(s.postgres) }, "#33658a"},
	{"sessions of MariaDB", func(s, _ sample) float64 { return float64(s.mariadb) }, "#7a4f8c"},
}

const (
	plotWidth, panelHeight = 860, 110
	leftMargin, gap        = 60, 36
)

// draw writes the series as an SVG: a line for the time under load, dots for the
// quiet moments.
func draw(path string, series []sample) error {
	var b strings.Builder
	height := len(panels)*(panelHeight+gap) + gap
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		plotWidth+leftMargin+20, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	last := series[len(series)-1].at
	for i, p := range panels {
		p.draw(&b, series, last, gap+i*(panelHeight+gap))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">0</text><text x="%d" y="%d" text-anchor="end">%s; dots: nothing is under way</text>`+"\n",
		leftMargin, height-8, leftMargin+plotWidth, height-8, last.Round(time.Second))
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func (p panel) draw(b *strings.Builder, series []sample, last time.Duration, top int) {
	highest := 1.0
	values := make([]float64, len(series))
	for i, s := range series {
		values[i] = p.value(s, series[max(0, i-1)])
		if i == 0 && !s.quiet {
			values[i] = -1
		}
		highest = max(highest, values[i])
	}
	bottom := top + panelHeight
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`, leftMargin, top-8, p.title)
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#999"/>`, leftMargin, top, bottom, leftMargin+plotWidth)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%.3g</text>`, leftMargin-6, top+8, highest)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">0</text>`+"\n", leftMargin-6, bottom)
	var line strings.Builder
	move := byte('M')
	for i, s := range series {
		x := float64(leftMargin) + s.at.Seconds()/last.Seconds()*plotWidth
		y := float64(bottom) - max(0, values[i])/highest*panelHeight
		switch {
		case values[i] < 0:
			move = 'M'
		case s.quiet:
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.2" fill="%s"/>`, x, y, p.color)
		default:
			fmt.Fprintf(&line, "%c%.1f %.1f", move, x, y)
			move = 'L'
		}
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1" opacity="0.7"/>`+"\n", line.String(), p.color)
}
