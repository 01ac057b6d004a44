package soak_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// fate is what must have become of a group of rows.
type fate uint8

const (
	open   fate = iota // the end of the request decides
	stored             // all rows are there, once each
	absent             // none is
	either             // all are, or none is
)

// fateOf is what an error of a commit says of one database.
func fateOf(err error, db *database) fate {
	var failed *dbscope.CommitError
	switch {
	case err == nil:
		return stored
	case errors.As(err, &failed):
		for _, o := range failed.Outcomes {
			if o.DB == db.name {
				return map[driver.Outcome]fate{driver.Committed: stored, driver.RolledBack: absent, driver.Unknown: either}[o.State]
			}
		}
		return absent
	case errors.Is(err, dbscope.ErrCommitUnknown):
		return either
	}
	return absent
}

// group is a group of rows that are committed together.
type group struct {
	db     *database
	number int
	rows   int
	fate   fate
	late   bool // its end comes after the answer has begun
}

// ended notes what ended the group, unless that is the request's end.
func (g *group) ended(err error) { g.fate = fateOf(err, g.db) }

// unit is one request, as its client and its handler see it.
type unit struct {
	id   int64
	kind string
	over chan struct{} // closed when the server is done with it
	seen atomic.Bool   // by the server, or it never will be

	mu       sync.Mutex
	groups   []*group
	status   int     // that the handler decided on, 0 where it did not
	panicked bool    // or left its goroutine
	told     []error // what dbscope told of it
}

// group adds a group of so many rows.
func (u *unit) group(db *database, rows int) *group {
	u.mu.Lock()
	defer u.mu.Unlock()
	g := &group{db: db, number: len(u.groups), rows: rows}
	u.groups = append(u.groups, g)
	return g
}

// begins is called with each attempt at the request. What an attempt before this
// one has left to the request's end was undone.
func (u *unit) begins() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status = 0
	for _, g := range u.groups {
		if g.fate == open {
			g.fate = absent
		}
	}
}

func (u *unit) tell(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.told = append(u.told, err)
}

// resolve decides the groups that were left to the request's end, with the status
// that the client got, or 0. The server is done with the request.
func (u *unit) resolve(answer int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	told := errors.Join(u.told...)
	if answer >= 400 && u.status < 400 && told == nil && !u.panicked {
		return fmt.Errorf("%s: the handler said %d, the client got %d, and nobody was told why", u.kind, u.status, answer)
	}
	for _, g := range u.groups {
		switch {
		case g.fate != open:
		case u.panicked || u.status >= 400:
			g.fate = absent
		case told == nil, answer > 0 && answer < 400 && !g.late:
			g.fate = stored
		default:
			g.fate = fateOf(told, g.db)
			if g.fate == absent && (answer == 0 || g.late) && !errors.Is(told, dbscope.ErrRolledBack) {
				g.fate = either // it may be of the sending, or of a hook
			}
		}
	}
	return nil
}

// entry is a group in the ledger of its database, with what shows why its fate is
// what it is.
type entry struct {
	unit           int64
	kind           string
	number, rows   uint8
	fate           fate
	status, answer int16 // that the handler decided on, and the client got
	told           bool
}

// ledger says what must be in a database.
type ledger struct {
	mu       sync.Mutex
	entries  []entry
	kept     int64 // rows of entries that were looked for and let go
	checksum int64
}

func (l *ledger) add(u *unit, answer int, g *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{
		u.id, u.kind, uint8(g.number), uint8(g.rows), g.fate, int16(u.status), int16(answer), len(u.told) > 0, //nolint:gosec // small numbers
	})
}

type place struct {
	unit   int64
	number uint8
}

// audit compares the ledger with the rows that are stored, of which each has a bit,
// and empties it. Bits of rows that are stored twice are in twice.
func (l *ledger) audit(db string, found map[place]uint64, twice map[place]uint64) (missing, foreign, half int, report error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	say := func(e entry, what string) {
		if len(errs) < 20 {
			errs = append(errs, fmt.Errorf("%s: unit %d (%s) group %d: %s: %d rows, found %b; its handler said %d, its client got %d, was anything told: %v",
				db, e.unit, e.kind, e.number, what, e.rows, found[place{e.unit, e.number}], e.status, e.answer, e.told))
		}
	}
	for _, e := range l.entries {
		at := place{e.unit, e.number}
		bits, all := found[at], uint64(1)<<e.rows-1
		switch {
		case twice[at] != 0:
			say(e, "stored twice")
		case bits != 0 && bits != all:
			half++
			say(e, "half of it is stored")
		case bits == 0 && e.fate == stored:
			missing++
			say(e, "was acknowledged and is missing")
		case bits != 0 && e.fate == absent:
			foreign++
			say(e, "was refused and is stored")
		}
		if bits == all {
			l.kept += int64(e.rows)
			l.checksum += e.unit * int64(e.rows)
		}
		delete(found, at)
	}
	for at, bits := range found {
		foreign++
		say(entry{unit: at.unit, number: at.number}, fmt.Sprintf("nobody has written it: %b", bits))
	}
	l.entries = nil
	return missing, foreign, half, errors.Join(errs...)
}
