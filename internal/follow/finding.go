// Package follow keeps what can be known of units of work from their events: what each
// does now, its steps, and what is suspicious about it. The observers that log, count and
// show it are made of it.
package follow

import (
	"fmt"
	"time"

	"github.com/dbscope/dbscope/internal/callers"
)

// Suspicion is a kind of thing that deserves a look.
type Suspicion uint8

// The suspicions.
const (
	// Idle: a transaction was open and nothing was done in it, for longer than the limit.
	Idle Suspicion = iota + 1
	// NotEnded: the same for so long that nobody seems to end it.
	NotEnded
	// Call: the unit called another service while a transaction was open.
	Call
	// Repeated: the same query was run many times in one unit.
	Repeated
	// Savepoints: a transaction has more live ones than PostgreSQL keeps in memory.
	Savepoints
	// Connections: the unit holds more than dbscope.MaxConns says.
	Connections
	// Wait: it took long to get a connection.
	Wait
	// LeftOpen: rows were not closed, and the end of their transaction did it.
	LeftOpen
	// Busy: a DB was used while another goroutine, or rows that were left open, had the
	// unit's session.
	Busy
	// AfterEnd: a DB was used after the end of the unit.
	AfterEnd
)

// names are stable: they are values of metrics and of fields of logs.
var names = [...]string{
	Idle: "idle", NotEnded: "not_ended", Call: "call", Repeated: "repeated", Savepoints: "savepoints",
	Connections: "connections", Wait: "wait", LeftOpen: "left_open", Busy: "busy", AfterEnd: "after_end",
}

func (s Suspicion) String() string { return names[s] }

// Finding is a suspicion that came true.
type Finding struct {
	Suspicion Suspicion
	DB        string
	Opened    callers.Place // where the transaction was opened, if there is one
	At        callers.Place // where it happened, if that is another place
	Text      string        // the statement, or whom the unit calls
	Count     int           // how often, or how many
	Limit     int           // how many were to be
	Duration  time.Duration // how long it took, so far
	Time      time.Time
}

// Sentence says it in words, without the text of a statement.
func (f Finding) Sentence() string {
	switch f.Suspicion {
	case Idle:
		return fmt.Sprintf("a transaction of %s is idle for %v", f.DB, round(f.Duration))
	case NotEnded:
		return fmt.Sprintf("a transaction of %s is idle for %v, and nobody seems to end it", f.DB, round(f.Duration))
	case Call:
		return fmt.Sprintf("%s was called for %v while a transaction of %s was open", f.Text, round(f.Duration), f.DB)
	case Repeated:
		return fmt.Sprintf("the same query was run %d times on %s in one unit", f.Count, f.DB)
	case Savepoints:
		return fmt.Sprintf("a transaction of %s has %d live savepoints, more than %d slow down the whole server", f.DB, f.Count, f.Limit)
	case Connections:
		return fmt.Sprintf("the unit holds %d connections, and is meant to hold %d", f.Count, f.Limit)
	case Wait:
		return fmt.Sprintf("a connection of %s came after %v", f.DB, round(f.Duration))
	case LeftOpen:
		return fmt.Sprintf("rows of a query on %s were not closed", f.DB)
	case Busy:
		return fmt.Sprintf("a use of %s was refused, since another goroutine, or open rows, had the session", f.DB)
	case AfterEnd:
		return fmt.Sprintf("a use of %s was refused, since the unit was over", f.DB)
	}
	return f.Suspicion.String()
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}

// Limits say when something is suspicious. What is 0 is never.
type Limits struct {
	Idle        time.Duration // of a transaction in which nothing is done
	NotEnded    time.Duration // the same, until nobody seems to end it
	Wait        time.Duration // for a connection
	Slow        time.Duration // of a whole unit
	Repetitions int           // of a query in one unit
	Savepoints  int           // that are live
}

// Default are the limits where nobody says otherwise.
var Default = Limits{
	Idle: 500 * time.Millisecond, NotEnded: time.Minute, Wait: time.Second, Slow: time.Second,
	Repetitions: 25, Savepoints: 64,
}
