package report

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/pprof/profile"
)

// Share is a part of the service's CPU time for a request.
type Share struct {
	Work, Subject, Owner string
	Micros               float64
}

// The owners of CPU time that are no package.
const (
	toDatabase = "system calls, to the database"
	toClient   = "system calls, to the client"
	collector  = "garbage collection in the background"
	scheduler  = "goroutines, timers, waiting for the network"
)

// owners are in the table's order. What a function of the standard library or
// the runtime uses, an allocation for instance, belongs to the package that
// calls it.
var owners = []struct{ owner, prefix string }{
	{"net/http", "net/http."},
	{"net/http", "net/textproto."},
	{"net/http", "net/url."},
	{"the handler", "github.com/dbscope/dbscope/bench/"},
	{"httpscope", "github.com/dbscope/dbscope/middleware/"},
	{"dbscope", "github.com/dbscope/dbscope"},
	{"another library", "github.com/avito-tech/"},
	{"another library", "gorm.io/"},
	{"database/sql", "database/sql"},
	{"the driver and its pool", "github.com/jackc/"},
	{"the driver and its pool", "github.com/go-sql-driver/"},
	{toDatabase, ""},
	{toClient, ""},
	{collector, ""},
	{scheduler, ""},
}

// Owners divides the CPU time of each request, in microseconds, by who has
// caused it.
func Owners(work, subject, file string, perRequest float64) ([]Share, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // was only read
	p, err := profile.Parse(in)
	if err != nil {
		return nil, fmt.Errorf("report: %s: %w", file, err)
	}
	sums, total := map[string]int64{}, int64(0)
	for _, sample := range p.Sample {
		n := sample.Value[len(sample.Value)-1] // nanoseconds
		sums[owner(functions(sample))] += n
		total += n
	}
	var shares []Share
	for _, o := range owners {
		if n := sums[o.owner]; n > 0 {
			shares = append(shares, Share{work, subject, o.owner, perRequest * float64(n) / float64(total)})
			delete(sums, o.owner)
		}
	}
	return shares, nil
}

// functions are those of a sample, the innermost first.
func functions(s *profile.Sample) (names []string) {
	for _, location := range s.Location {
		for _, line := range location.Line {
			if line.Function != nil {
				names = append(names, line.Function.Name)
			}
		}
	}
	return names
}

func owner(names []string) string {
	calls := len(names) > 0 && (strings.HasPrefix(names[0], "syscall.") || strings.HasPrefix(names[0], "internal/runtime/syscall"))
	found := ""
	for _, name := range names {
		of := ownerOf(name)
		switch {
		case of == "":
			if found == "" && strings.HasPrefix(name, "runtime.gcBgMarkWorker") {
				return collector
			}
		case !calls:
			return of
		case of == "the driver and its pool" || of == "dbscope" || of == "database/sql":
			return toDatabase
		default:
			found = of
		}
	}
	if found != "" {
		return toClient
	}
	return scheduler
}

func ownerOf(function string) string {
	for _, o := range owners {
		if o.prefix != "" && strings.HasPrefix(function, o.prefix) {
			return o.owner
		}
	}
	return ""
}
