package soak_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(log.New(io.Discard, "", 0)) // each connection that is cut is a line
	goleak.VerifyTestMain(m)
}

// The variables of make soak.
const (
	durationVariable = "SOAK"      // how long to go on, a few seconds without it
	csvVariable      = "SOAK_CSV"  // where to write the series
	plotVariable     = "SOAK_PLOT" // where to draw it
)

// plan says how long the parts of a soak are.
type plan struct {
	rounds                 int
	round, pause, sampling time.Duration // pause: between two faults
}

func planned(t *testing.T) plan {
	text := os.Getenv(durationVariable)
	if text == "" {
		return plan{rounds: 1, round: 8 * time.Second, pause: 200 * time.Millisecond, sampling: 2 * time.Second}
	}
	all, err := time.ParseDuration(text)
	ok(t, err)
	const round = 30 * time.Second
	return plan{rounds: max(1, int(all/round)), round: round, pause: 300 * time.Millisecond, sampling: 5 * time.Second}
}

// soak is one run.
type soak struct {
	*service
	t      *testing.T
	began  time.Time
	base   sample // quiet, once all has been used
	mu     sync.Mutex
	series []sample
	counts map[string]int // of faults
	found  [3]int         // rows missing, foreign, half
}

// Each round is load with faults, then a pause in which all rows are looked for
// and nothing may be left of the load.
func TestNothingIsLostAndNothingIsLeftWhileDatabasesFail(t *testing.T) {
	p := planned(t)
	w := newWorld(t)
	s := &soak{service: newService(w), t: t, began: time.Now(), counts: map[string]int{}}
	t.Cleanup(s.close)
	s.warmUp()
	stop := s.sampling(p.sampling)
	for n := 1; n <= p.rounds && !t.Failed(); n++ {
		s.round(p, n)
	}
	stop()
	s.checkTotals()
	s.report()
	for variable, write := range map[string]func(string, []sample) error{csvVariable: writeCSV, plotVariable: draw} {
		if path := os.Getenv(variable); path != "" {
			ok(t, write(path, s.series))
		}
	}
}

// warmUp does every kind of request at least once, so that what the pools and the
// libraries keep is there, and takes the base.
func (s *soak) warmUp() {
	for _, db := range s.world.databases { // each *sql.DB has a goroutine
		ok(s.t, dbscope.Run(s.t.Context(), func(ctx context.Context) error {
			_, err := db.SQL().ExecContext(ctx, "SELECT 1")
			return errors.Join(err, db.exec(ctx, "SELECT 1"))
		}))
	}
	s.loadFor(2*time.Second, func() (more bool) {
		time.Sleep(100 * time.Millisecond)
		missing := s.neverDone()
		if time.Since(s.began) > 2*patience && len(missing) > 0 {
			s.t.Errorf("no request was ever done: %v", missing)
			return false
		}
		return len(missing) > 0
	})
	s.drain()
	s.audit(0)
	runtime.GC() // twice in all, for what finalizers and pools keep
	s.base = s.take(s.began)
	s.base.quiet = true
	s.series = append(s.series, s.base)
}

// neverDone returns the kinds of requests of which none was done yet.
func (s *soak) neverDone() []string {
	s.service.mu.Lock()
	defer s.service.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.names), func(name string) bool { return s.answered[name] > 0 || fails[name] })
}

// loadFor loads the service for so long, and as long as meanwhile says that there
// is more to do. That is called again and again.
func (s *soak) loadFor(d time.Duration, meanwhile func() (more bool)) {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.load(ctx)
	}()
	for end := time.Now().Add(d); meanwhile() || time.Now().Before(end); {
	}
	cancel()
	select {
	case <-over:
	case <-time.After(2 * patience):
		s.t.Fatalf("requests do not end:\n%s", stacks())
	}
}

func (s *soak) round(p plan, n int) {
	before := s.last.Load()
	rest := slices.Clone(faults) // in the first round each happens at least once
	s.loadFor(p.round, func() (more bool) {
		f := anyFault()
		if n == 1 && len(rest) > 0 {
			f, rest = rest[0], rest[1:]
		}
		if err := f.happen(s.world); err != nil {
			s.t.Logf("%s: %v", f.name, err)
		}
		s.counts[f.name]++
		time.Sleep(p.pause)
		return n == 1 && len(rest) > 0
	})
	s.world.mend()
	s.drain()
	s.audit(before)
	s.compare(n)
	s.mu.Lock()
	for _, err := range s.faults {
		s.t.Errorf("round %d: %v", n, err)
	}
	s.mu.Unlock()
}

// returnTimeout is how long the load may take to go away. pgx has 15 seconds for
// the cancel request of a statement that was given up.
const returnTimeout = 60 * time.Second

// drain closes idle connections until nothing is left, or too much time has
// passed.
func (s *soak) drain() {
	deadline := time.Now().Add(returnTimeout)
	for settled := false; ; {
		s.client.CloseIdleConnections()
		var errs []error
		for _, db := range s.world.databases {
			errs = append(errs, db.idle())
		}
		postgres, mariadb, err := s.world.sessions()
		errs = append(errs, err)
		if postgres+mariadb > 0 {
			errs = append(errs, fmt.Errorf("%d sessions of PostgreSQL and %d of MariaDB are left", postgres, mariadb))
		}
		if n := runtime.NumGoroutine(); s.base.goroutines > 0 && n > s.base.goroutines {
			errs = append(errs, fmt.Errorf("%d goroutines are left, of %d before", n, s.base.goroutines))
		}
		if n := openFiles(); s.base.files > 0 && n > s.base.files {
			errs = append(errs, fmt.Errorf("%d files are open, %d were before", n, s.base.files))
		}
		err = errors.Join(errs...)
		if err == nil && s.base.at == 0 && !settled { // the base is what stays
			settled = true
			time.Sleep(500 * time.Millisecond)
			continue
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%v after the load has ended something of it is left: %v\n%s", returnTimeout, err, stacks())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// What the heap may grow, beside the base. Caches of the libraries are in it.
const (
	heapFactor = 1.5
	heapExtra  = 8 << 20
)

// compare compares a quiet moment with the base.
func (s *soak) compare(round int) {
	runtime.GC() // as above
	now := s.take(s.began)
	now.quiet = true
	s.mu.Lock()
	s.series = append(s.series, now)
	s.mu.Unlock()
	if limit := uint64(heapFactor*float64(s.base.heap)) + heapExtra; now.heap > limit {
		s.t.Errorf("round %d: %d bytes of heap are in use in quiet, %d were at first", round, now.heap, s.base.heap)
	}
}

// audit looks for all rows of the units after one.
func (s *soak) audit(after int64) {
	for _, db := range s.world.databases {
		found, twice, err := db.find(after)
		ok(s.t, err)
		missing, foreign, half, err := db.ledger.audit(db.name, found, twice)
		for i, n := range []int{missing, foreign, half} {
			s.found[i] += n
		}
		if err != nil {
			s.t.Errorf("%v", err)
		}
		if err := db.uneven(); err != nil {
			s.t.Error(err)
		}
	}
}

// checkTotals looks whether what was there in its round is there still, and
// nothing else.
func (s *soak) checkTotals() {
	for _, db := range s.world.databases {
		n, checksum, err := db.total()
		ok(s.t, err)
		if n != db.ledger.kept || checksum != db.ledger.checksum {
			s.t.Errorf("%s: %d rows are stored at the end, with sum %d, and %d were found in their rounds, with sum %d",
				db.name, n, checksum, db.ledger.kept, db.ledger.checksum)
		}
	}
}

// sampling takes a sample now and then until stop is called.
func (s *soak) sampling(each time.Duration) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(each):
			}
			now := s.take(s.began)
			s.mu.Lock()
			s.series = append(s.series, now)
			s.mu.Unlock()
		}
	})
	s.base.goroutines++
	return func() {
		close(done)
		running.Wait()
	}
}

func (s *soak) report() {
	var rows int64
	for _, db := range s.world.databases {
		rows += db.ledger.kept
	}
	last := s.series[len(s.series)-1]
	s.t.Logf("%v: %d requests, %d without an answer; groups of rows: %d stored, %d refused, %d unknown; %d rows stored; missing %d, foreign %d, half %d",
		time.Since(s.began).Round(time.Second), s.requests.Load(), s.unanswered.Load(), s.yes.Load(), s.no.Load(), s.unknown.Load(),
		rows, s.found[0], s.found[1], s.found[2])
	s.t.Logf("heap %.1f MB at first, %.1f MB at last; goroutines %d and %d, files %d and %d",
		float64(s.base.heap)/1e6, float64(last.heap)/1e6, s.base.goroutines, last.goroutines, s.base.files, last.files)
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		s.t.Logf("%4d times %s", s.counts[name], name)
	}
	for _, name := range s.names {
		s.t.Logf("%7d requests done: %s", s.answered[name], name)
	}
}

func stacks() string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	return b.String()
}
