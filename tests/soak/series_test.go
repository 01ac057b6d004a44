package soak_test

import (
	"encoding/csv"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// sample is one moment of the series. What could not be asked for is -1.
type sample struct {
	at                time.Duration
	quiet             bool // nothing is under way, and all idle connections are closed
	heap              uint64
	goroutines, files int
	postgres, mariadb int // sessions
	requests          int64
	stored, refused   int64 // groups of rows
	unknown           int64
}

// take collects garbage first.
func (s *service) take(since time.Time) sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	now := sample{
		at: time.Since(since), heap: m.HeapAlloc, goroutines: runtime.NumGoroutine(), files: openFiles(),
		requests: s.requests.Load(), stored: s.yes.Load(), refused: s.no.Load(), unknown: s.unknown.Load(),
	}
	var err error
	if now.postgres, now.mariadb, err = s.world.sessions(); err != nil {
		now.postgres, now.mariadb = -1, -1
	}
	return now
}

// openFiles counts them where the system shows them in a folder.
func openFiles() int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

var header = []string{
	"seconds", "quiet", "heap_bytes", "goroutines", "files", "postgresql_sessions", "mariadb_sessions",
	"requests", "groups_stored", "groups_refused", "groups_unknown",
}

func writeCSV(path string, series []sample) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(file)
	_ = w.Write(header) // the error comes with Error
	for _, s := range series {
		_ = w.Write([]string{
			fmt.Sprintf("%.1f", s.at.Seconds()), strconv.FormatBool(s.quiet), fmt.Sprint(s.heap), fmt.Sprint(s.goroutines), fmt.Sprint(s.files),
			fmt.Sprint(s.postgres), fmt.Sprint(s.mariadb), fmt.Sprint(s.requests), fmt.Sprint(s.stored), fmt.Sprint(s.refused), fmt.Sprint(s.unknown),
		})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return file.Close()
}
