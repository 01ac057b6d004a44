package livescope

import (
	"cmp"
	"slices"
	"time"

	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

// What the page's script gets, as JSON. Times are milliseconds.

// overview is what goes on.
type overview struct {
	Now     int64 // Unix time
	Units   int   // in the last minute, as the next two
	Failed  int
	Found   int
	Live    []unit // the oldest first
	Hidden  int    // how many there are beside them
	Waiting int
	Open    int // transactions

	Suspicious, Failures, Slowest, Recent []unit

	Hosts []hostView
}

// unit is a line about one.
type unit struct {
	ID, Parent uint64
	Name       string
	Began      int64
	Took       float64 // so far
	Over       bool
	Outcome    string
	Error      string
	Doing      string
	Since      float64 // ago
	Statement  string
	Opened     string // where
	Statements int
	Waited     float64
	Idle       float64
	Attempt    int
	ReadOnly   bool
	Found      []finding
}

type finding struct {
	What, Sentence string
	Opened, At     string
	Text           string
}

// timeline is one unit, with its steps.
type timeline struct {
	unit
	Steps   []step
	Dropped int
}

type step struct {
	Kind, Text, DB string
	Start, Took    float64
	Failed         bool
	Outcome        string
	Count          int
}

type hostView struct {
	Cluster, DB, Host string
	Role              string
	Lag               float64
	LagKnown          bool
	Seen              float64 // ago, -1 for never
	Error             string
	Reads, Others     int // transactions in the last minute
	Share             int // of the reads of the DB, in percent
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// mostLive is how many live units are shown.
const mostLive = 200

// overview returns what goes on now.
func (p *Page) overview(now time.Time) overview {
	since := now.Add(-p.keep)
	p.mu.Lock()
	live := make([]*follow.Unit, 0, len(p.live))
	for u := range p.live {
		live = append(live, u)
	}
	suspect, failed, slow, recent := p.suspect.since(since), p.failed.since(since), p.slow.since(since), p.recent.since(since)
	o := overview{
		Now: now.UnixMilli(), Units: p.rates.units.sum(now), Failed: p.rates.failed.sum(now), Found: p.rates.suspicious.sum(now),
		Live: []unit{}, Hosts: p.hosts(now), // none is an empty list for the script, and no null
	}
	p.mu.Unlock()
	for _, u := range live {
		s := u.State()
		o.Open += len(s.Open)
		if s.Waits {
			o.Waiting++
		}
		o.Live = append(o.Live, p.unit(s, now))
	}
	slices.SortFunc(o.Live, func(a, b unit) int { return cmp.Compare(a.ID, b.ID) })
	if more := len(o.Live) - mostLive; more > 0 {
		o.Live, o.Hidden = o.Live[:mostLive], more
	}
	o.Suspicious, o.Failures, o.Slowest, o.Recent = p.units(suspect, now), p.units(failed, now), p.units(slow, now), p.units(recent, now)
	return o
}

func (p *Page) units(all []kept, now time.Time) []unit {
	views := make([]unit, 0, len(all))
	for _, k := range all {
		views = append(views, p.unit(k.unit.State(), now))
	}
	return views
}

func (p *Page) unit(s follow.State, now time.Time) unit {
	e := s.Event
	v := unit{
		ID: e.Unit, Parent: e.Parent, Name: e.Name, Began: e.Time.UnixMilli(), Over: s.Over, Statements: s.Statements,
		Waited: ms(s.Waited), Idle: ms(s.Idle), Attempt: e.Attempt, ReadOnly: e.ReadOnly, Took: ms(now.Sub(e.Time)),
	}
	if s.Over {
		v.Took, v.Outcome, v.Error = ms(e.Duration), e.Outcome.String(), p.errorText(e.Err)
	} else {
		v.Doing, v.Since = s.Doing, ms(now.Sub(s.Since))
		if p.texts {
			v.Statement = s.Statement
		}
	}
	for _, open := range s.Open {
		v.Opened = cmp.Or(v.Opened, open.Opened.String())
	}
	for _, f := range s.Found {
		view := finding{What: f.Suspicion.String(), Sentence: f.Sentence(), Opened: f.Opened.String(), At: f.At.String()}
		if p.texts && f.Suspicion != follow.Call {
			view.Text = f.Text
		}
		v.Found = append(v.Found, view)
	}
	return v
}

func (p *Page) errorText(err error) string {
	if p.errors && err != nil {
		return err.Error()
	}
	return follow.ErrorName(err)
}

// timeline returns a unit that is live or kept.
func (p *Page) timeline(id uint64, now time.Time) (timeline, bool) {
	u := p.find(id)
	if u == nil {
		return timeline{}, false
	}
	s := u.State()
	t := timeline{unit: p.unit(s, now), Dropped: s.Dropped, Steps: []step{}}
	for _, one := range s.Steps {
		kind := one.Kind.String()
		if one.Kind == 0 {
			kind = "application"
		}
		outcome := ""
		if one.Outcome != observe.None {
			outcome = one.Outcome.String()
		}
		t.Steps = append(t.Steps, step{kind, one.Text, one.DB, ms(one.Start), ms(one.Duration), one.Failed, outcome, one.Count})
	}
	slices.SortStableFunc(t.Steps, func(a, b step) int { return cmp.Compare(a.Start, b.Start) })
	return t, true
}

func (p *Page) find(id uint64) *follow.Unit {
	p.mu.Lock()
	defer p.mu.Unlock()
	for u := range p.live {
		if u.Event().Unit == id {
			return u
		}
	}
	for _, all := range [][]kept{p.recent.all, p.slow.all, p.failed.all, p.suspect.all} {
		for _, k := range all {
			if k.unit.Event().Unit == id {
				return k.unit
			}
		}
	}
	return nil
}

// hosts returns what is known of hosts. The caller holds mu.
func (p *Page) hosts(now time.Time) (all []hostView) {
	nodes := map[string]hostView{}
	for _, c := range p.clusters {
		for _, n := range c.nodes() {
			v := hostView{Cluster: c.name, Host: n.Host, Role: "replica", Lag: ms(n.Lag), LagKnown: !n.Primary && (n.Fresh || n.Lag > 0), Seen: -1}
			if n.Primary {
				v.Role = "primary"
			}
			if n.Err != nil {
				v.Role, v.Error = "does not answer", p.errorText(n.Err)
			}
			if !n.Seen.IsZero() {
				v.Seen = ms(now.Sub(n.Seen))
			}
			nodes[n.Host] = v
		}
	}
	reads, used := map[string]int{}, map[string]bool{}
	for at, s := range p.sessions {
		v := nodes[at.name] // of several DBs on a host each has a line
		used[at.name] = true
		v.DB, v.Host, v.Reads, v.Others = at.db, at.name, s.reads.sum(now), s.others.sum(now)
		reads[at.db] += v.Reads
		all = append(all, v)
	}
	for name, v := range nodes {
		if !used[name] {
			all = append(all, v)
		}
	}
	for i := range all {
		if sum := reads[all[i].DB]; sum > 0 {
			all[i].Share = (100*all[i].Reads + sum/2) / sum
		}
	}
	slices.SortFunc(all, func(a, b hostView) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.DB, b.DB), cmp.Compare(a.Host, b.Host))
	})
	return all
}
