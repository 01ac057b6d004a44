package observe_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/check"
)

func TestTheDocumentationHasTheTwentyFaultsAndTheirWords(t *testing.T) {
	page, err := os.ReadFile("../../docs/observe.md")
	ok(t, err)
	for _, f := range faults {
		_, row, has := strings.Cut(string(page), "\n| "+f.name+" | ")
		row, _, _ = strings.Cut(row, " |\n")
		if !has {
			t.Errorf("there is no %q", f.name)
		}
		all := f.found
		for _, others := range f.elsewhere {
			all = append(all, slices.Collect(maps.Keys(others))...)
		}
		for _, word := range all {
			if word = strings.TrimPrefix(word, failed); !strings.Contains(row, word) && word != "500" {
				t.Errorf("%q is found as %s, and not as %s", f.name, row, word)
			}
		}
	}
	if len(faults) != 20 {
		t.Errorf("there are %d", len(faults))
	}
}

func TestEachFaultIsFoundByNameInTheLogOnThePageAndInTheMetrics(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, time.Second, map[string]handler{f.route: f.sown}, f.opts...)
			if f.ask == nil {
				s.ask(f.route, nil)
			} else {
				f.ask(s)
			}
			want := words{}
			maps.Copy(want, f.elsewhere)
			for _, word := range f.found {
				want.add(f.route, word)
			}
			for medium, found := range map[string]func() words{"the log": s.logged, "the page": s.shown, "the metrics": s.measured} {
				// Units are over shortly after their answers.
				check.Eventually(t, medium+" has it", func() bool { return found().has(want, medium == "the log") })
				if others := found().without(want, medium == "the log"); len(others) > 0 {
					t.Errorf("%s has these too: %s", medium, others)
				}
			}
			if t.Failed() {
				t.Logf("want %s%s", want, s.everything())
			}
		})
	}
}

// has reports whether all words that are wanted are there. A log has the texts of errors,
// and not their kinds.
func (w words) has(want words, isLog bool) bool {
	for name, all := range want {
		for word := range all {
			if isLog && strings.HasPrefix(word, failed) {
				word = failed
			}
			if !w[name][word] {
				return false
			}
		}
	}
	return true
}

// without returns the words that nobody wants, but for those that come by themselves on a
// machine that is too busy.
func (w words) without(want words, isLog bool) words {
	others := words{}
	for name, all := range w {
		for word := range all {
			switch {
			case want[name][word], word == slow, word == "wait", word == "idle":
			case isLog && word == failed && strings.Contains(want.of(name), failed):
			default:
				others.add(name, word)
			}
		}
	}
	return others
}

// An honest load has all kinds of requests, of clients some of whom ask for what is not
// there, or give up.
func TestAnHonestLoadRaisesNoAlarm(t *testing.T) {
	requests := 2_000
	if os.Getenv("DBSCOPE_LONG") != "" {
		requests = 10_000
	}
	s := start(t, 0, nil)
	s.pool.SetMaxOpenConns(clients + 1)
	s.fill(100)
	longest := s.witness()
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for n := range requests / clients {
				if n%50 == 49 {
					s.giveUp("POST /orders")
				} else {
					s.askHonestly(n + c)
				}
			}
		})
	}
	all.Wait()
	s.Close() // waits for the last
	pause := longest()
	for medium, found := range map[string]words{"the log": s.logged(), "the page": s.shown(), "the metrics": s.measured()} {
		others := found.without(words{}, false) // than those about time
		switch {
		case len(others) > 0:
			t.Errorf("%s has %s", medium, others)
		case len(found) > 0 && pause < tooLong:
			t.Errorf("%s has %s, and yet no statement of the witness took longer than %v", medium, found, pause)
		case len(found) > 0:
			t.Logf("%s has %s, which says nothing where a single statement takes %v", medium, found, pause)
		}
	}
	t.Logf("%d requests; the longest statement of the witness took %v", requests, pause)
	if t.Failed() {
		t.Log(s.everything())
	}
}

// clients are those of the honest load. Each has a connection.
const clients = 8

// tooLong is what a machine does not take for a simple statement that has time for the
// service.
const tooLong = 100 * time.Millisecond

// witness runs the simplest statement over and over, on a connection of its own, and
// returns how long one has taken at most: what takes long by then says nothing about the
// service, but that others use its machine.
func (s *service) witness() (longest func() time.Duration) {
	stop, most := make(chan struct{}), make(chan time.Duration)
	go func() {
		var longest time.Duration
		for {
			select {
			case <-stop:
				most <- longest
				return
			case <-time.After(5 * time.Millisecond):
			}
			began := time.Now()
			_, err := s.pool.ExecContext(s.t.Context(), `select 1`)
			longest = max(longest, time.Since(began))
			if err != nil {
				s.t.Error(err)
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-most
	}
}

// askHonestly sends one of the requests.
func (s *service) askHonestly(n int) {
	switch id := rand.N(110); n % 10 { // ten of the orders do not exist
	case 0, 1, 2:
		s.ask("GET /orders", nil)
	case 3, 4:
		s.ask(fmt.Sprintf("GET /orders/order%%20%d", id), nil)
	case 5:
		s.ask(fmt.Sprintf("POST /orders/order%%20%d/cancel", id), nil)
	case 6:
		s.ask("GET /stock", nil)
	case 7:
		s.ask("POST /imports", strings.NewReader(strings.Repeat("coffee ", 5)+strings.Repeat("tea ", 5)))
	default:
		s.ask("POST /orders", nil)
	}
}

// giveUp asks and does not wait for the answer.
func (s *service) giveUp(request string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), rand.N(5*time.Millisecond))
	defer cancel()
	s.askIn(ctx, request, nil)
}
