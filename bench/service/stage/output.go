package stage

import (
	"encoding/csv"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// The columns of a file of rounds. Times are in microseconds.
var columns = []string{
	"db", "work", "clients", "conns", "latency", "rate", "subject", "round", "requests",
	"per_second", "p50", "p99", "service_cpu", "database_cpu", "allocs", "bytes",
}

// fields has the values of a round for reading or writing, in their columns' order.
func (r *Round) fields() []any {
	return []any{
		&r.DB, &r.Work, &r.Clients, &r.Conns, &r.Latency, &r.Rate, &r.Subject, &r.Round, &r.Requests,
		&r.PerSecond, &r.P50, &r.P99, &r.ServiceCPU, &r.DatabaseCPU, &r.Allocs, &r.Bytes,
	}
}

// WriteCSV writes rounds, to four digits.
func WriteCSV(w io.Writer, rounds []Round) error {
	out := csv.NewWriter(w)
	lines := [][]string{columns}
	for _, r := range rounds {
		var line []string
		for _, field := range r.fields() {
			line = append(line, text(field))
		}
		lines = append(lines, line)
	}
	return out.WriteAll(lines)
}

func text(field any) string {
	switch v := field.(type) {
	case *time.Duration:
		return strconv.FormatFloat(micros(float64(*v)), 'g', 4, 64)
	case *float64:
		return strconv.FormatFloat(*v, 'g', 4, 64)
	default:
		return fmt.Sprint(reflect.ValueOf(field).Elem())
	}
}

// ReadCSV reads what [WriteCSV] has written.
func ReadCSV(in io.Reader) ([]Round, error) {
	lines, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 || strings.Join(lines[0], " ") != strings.Join(columns, " ") {
		return nil, fmt.Errorf("stage: the file has not the columns %q", columns)
	}
	rounds := make([]Round, len(lines)-1)
	for i, line := range lines[1:] {
		for k, field := range rounds[i].fields() {
			if err := parse(line[k], field); err != nil {
				return nil, fmt.Errorf("stage: line %d: %w", i+2, err)
			}
		}
	}
	return rounds, nil
}

func parse(text string, field any) (err error) {
	var f float64
	switch v := field.(type) {
	case *string:
		*v = text
	case *int:
		*v, err = strconv.Atoi(text)
	case *float64:
		*v, err = strconv.ParseFloat(text, 64)
	case *time.Duration:
		f, err = strconv.ParseFloat(text, 64)
		*v = time.Duration(f * float64(time.Microsecond))
	}
	return err
}

// WriteBench writes rounds as lines of Go's benchmarks, so that benchstat
// compares two versions of a library.
func WriteBench(w io.Writer, rounds []Round) error {
	for _, r := range rounds {
		name := fmt.Sprintf("db=%s/work=%s/clients=%d/conns=%d/latency=%v/subject=%s", r.DB, r.Work, r.Clients, r.Conns, r.Latency, r.Subject)
		_, err := fmt.Fprintf(w, "BenchmarkService/%s %d %d cpu-ns/op %d service-cpu-ns/op %d p50-ns %d p99-ns %.0f req/s %.1f allocs/op %.0f B/op\n",
			strings.ReplaceAll(name, " ", "_"), r.Requests, r.TotalCPU(), r.ServiceCPU, r.P50, r.P99, r.PerSecond, r.Allocs, r.Bytes)
		if err != nil {
			return err
		}
	}
	return nil
}
