package follow

import (
	"slices"
	"strings"
	"time"

	"github.com/dbscope/dbscope/internal/callers"
	"github.com/dbscope/dbscope/observe"
)

// Step is one that a unit has done.
type Step struct {
	Kind     observe.Kind // 0 for what the application did while a transaction was open
	DB, Text string
	Start    time.Duration // since the unit began
	Duration time.Duration
	Failed   bool
	Outcome  observe.Outcome
	Count    int // statements that were sent together
}

// step keeps one. The caller holds mu.
func (u *Unit) step(e observe.Event) {
	switch {
	case u.f.c.Steps == 0:
	case len(u.steps) == u.f.c.Steps:
		u.dropped++
	default:
		text := shortened(e.Text)
		if isStatement := e.Kind == observe.Statement || e.Kind == observe.Prepare; isStatement && !u.f.c.Texts {
			text = firstWord(text)
		}
		u.steps = append(u.steps, Step{
			Kind: e.Kind, DB: e.DB, Text: text, Start: e.Time.Sub(u.event.Time), Duration: e.Duration,
			Failed: e.Err != nil, Outcome: e.Outcome, Count: e.Statements,
		})
	}
}

// longestText is how much is kept of a statement. The texts of all units together must
// not take the memory.
const longestText = 500

func shortened(text string) string {
	if len(text) <= longestText {
		return text
	}
	return strings.ToValidUTF8(text[:longestText], "") + " ..."
}

// firstWord is what a statement does, in the application's spelling. It does not keep the
// text.
func firstWord(text string) string {
	text = strings.TrimLeft(text, " \t\r\n(")
	end := strings.IndexFunc(text, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
	if end < 0 {
		end = len(text)
	}
	return strings.Clone(text[:end])
}

// State is what is known of a unit at some time.
type State struct {
	Event      observe.Event // of its beginning; once it is over of its end
	Over       bool
	Doing      string // in a few words, for as long as it is not over
	Since      time.Time
	Statement  string // that runs, or ""
	Waits      bool   // for a connection
	Open       []Open
	Conns      int
	Statements int
	Waited     time.Duration
	Idle       time.Duration // in transactions in which nothing was done
	Longest    time.Duration // the same, at a time
	Failure    error         // of the last statement that failed
	Retried    bool
	Found      []Finding
	Steps      []Step
	Dropped    int // steps that were not kept
}

// Open is a transaction that is open.
type Open struct {
	DB, Host string
	Opened   callers.Place
	Since    time.Time
}

// State returns what is known of the unit now.
func (u *Unit) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := State{
		Event: u.event, Over: u.over, Waits: u.waits > 0, Conns: u.conns, Statements: u.statements, Waited: u.waited,
		Idle: u.idle, Longest: u.longest, Failure: u.failure, Retried: u.retries > 0,
		Found: slices.Clone(u.found), Steps: slices.Clone(u.steps), Dropped: u.dropped,
	}
	for _, t := range u.open {
		if t.doing.Kind == 0 {
			s.Idle += time.Since(t.since)
		}
		s.Open = append(s.Open, Open{t.event.DB, t.event.Host, t.at.Place(u.f.c.Libraries...), t.event.Time})
	}
	if !u.over {
		s.Doing, s.Since, s.Statement = u.doing()
	}
	return s
}

// doing says what the unit does now. The caller holds mu.
func (u *Unit) doing() (what string, since time.Time, statement string) {
	since = u.event.Time
	if u.waits > 0 {
		return "waits for a connection of " + u.waitsFor, u.waiting, ""
	}
	for _, t := range u.open {
		if t.doing.Kind != 0 {
			return t.doing.Kind.String() + " on " + t.event.DB, t.since, t.doing.Text
		}
	}
	switch {
	case len(u.open) > 0 && u.calls > 0:
		return "calls another service, in a transaction of " + u.open[0].event.DB, u.open[0].since, ""
	case len(u.open) > 0:
		return "idle in transaction of " + u.open[0].event.DB, u.open[0].since, ""
	case u.conns > 0:
		return "holds a connection, without a transaction", since, ""
	}
	return "works without a database", since, ""
}

// Event is that of the unit's beginning, or of its end, once it is over. Its name is the
// latest that is known.
func (u *Unit) Event() observe.Event {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.event
}
