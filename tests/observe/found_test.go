package observe_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// The words for what is found of a unit are the names of suspicions, and these.
const (
	slow   = "slow"
	again  = "run again"
	mixed  = "mixed"
	failed = "failed: " // with the kind of error
)

// words are what was found of the units of each name.
type words map[string]map[string]bool

func (w words) add(name, word string) {
	if w[name] == nil {
		w[name] = map[string]bool{}
	}
	w[name][word] = true
}

func (w words) of(name string) string {
	return strings.Join(slices.Sorted(maps.Keys(w[name])), ", ")
}

func (w words) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(w)) {
		all = append(all, name+": "+w.of(name))
	}
	return strings.Join(all, "; ")
}

// line is one of the log.
type line struct {
	Msg, Name, Suspicion, Outcome, Error, Opened, At string
	Unit                                             uint64
}

// logged are the words of the log, without the kinds of errors, whose texts it has.
func (s *service) logged() words {
	all := words{}
	for text := range strings.Lines(s.log.String()) {
		var l line
		ok(s.t, json.Unmarshal([]byte(text), &l))
		switch {
		case l.Suspicion != "":
			all.add(l.Name, l.Suspicion)
			s.blames(l.Suspicion, l.Opened+l.At)
		case l.Msg == "unit of work was slow":
			all.add(l.Name, slow)
		default:
			all.add(l.Name, failed)
			if l.Msg == "unit of work failed and is run again" {
				all.add(l.Name, again)
			}
			if l.Outcome == mixed {
				all.add(l.Name, mixed)
			}
		}
	}
	return all
}

// blames fails the test unless the place in the code is a fault's. Who waits for a
// connection is the victim.
func (s *service) blames(suspicion, place string) {
	if suspicion != "wait" && !strings.Contains(place, "observe/faults_test.go:") {
		s.t.Errorf("%s is said to be at %q", suspicion, place)
	}
}

// shown are the words of the page.
func (s *service) shown() words {
	r := httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://localhost/debug/dbscope/overview", nil)
	r.RemoteAddr = "127.0.0.1:40000"
	w := httptest.NewRecorder()
	s.live.ServeHTTP(w, r)
	type unit struct {
		Name, Error, Outcome string
		Attempt              int
		Took                 float64
		Found                []struct{ What, Opened, At string }
	}
	var page struct{ Suspicious, Failures, Slowest, Recent []unit }
	ok(s.t, json.Unmarshal(w.Body.Bytes(), &page))
	all := words{}
	for _, u := range page.Suspicious {
		for _, f := range u.Found {
			all.add(u.Name, f.What)
			if f.What == "not_ended" {
				all.add(u.Name, "idle") // which has become that
			}
			s.blames(f.What, f.Opened+f.At)
		}
	}
	for _, u := range page.Failures {
		all.add(u.Name, failed+u.Error)
		if u.Outcome == mixed {
			all.add(u.Name, mixed)
		}
	}
	for _, u := range page.Recent {
		if u.Attempt > 1 {
			all.add(u.Name, again)
		}
	}
	for _, u := range page.Slowest {
		if u.Took > 1000 && u.Error == "" {
			all.add(u.Name, slow)
		}
	}
	return all
}

// measured are the words of the metrics.
func (s *service) measured() words {
	var resource metricdata.ResourceMetrics
	ok(s.t, s.metrics.Collect(s.t.Context(), &resource))
	all := words{}
	of := func(set attribute.Set, key attribute.Key) string {
		value, _ := set.Value(key)
		return value.AsString()
	}
	for _, scope := range resource.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					name := of(p.Attributes, "dbscope.unit.name")
					switch m.Name {
					case "dbscope.unit.suspicions":
						all.add(name, of(p.Attributes, "dbscope.suspicion"))
					case "dbscope.unit.retries":
						all.add(name, again)
					}
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					if m.Name != "dbscope.unit.duration" {
						continue
					}
					name := of(p.Attributes, "dbscope.unit.name")
					kind := of(p.Attributes, "error.type")
					if kind != "" {
						all.add(name, failed+kind)
					}
					if of(p.Attributes, "dbscope.unit.outcome") == mixed {
						all.add(name, mixed)
					}
					if longest, has := p.Max.Value(); has && longest > 1 && kind == "" {
						all.add(name, slow)
					}
				}
			}
		}
	}
	return all
}

// everything is what one reads after a test that has failed.
func (s *service) everything() string {
	return fmt.Sprintf("\nthe log: %s\nthe page: %s\nthe metrics: %s\n%s", s.logged(), s.shown(), s.measured(), s.log)
}
