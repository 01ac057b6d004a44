package state

import (
	"fmt"

	"github.com/dbscope/dbscope/internal/invariant"
)

// Holder says who has a session's connection to itself.
//
//	from              by                                             to
//	nobody            take: a statement is admitted                  statement
//	statement         hold: it leaves rows open                      reader
//	reader            resume: the next read of them                  statement
//	statement, ender  leave: it is done, or only a part was ended    nobody
//	nobody, reader    seize: somebody ends it, or a block of it      ender
//	statement         abandon: its unit ended meanwhile              deserter
//	ender, deserter   end: the transaction is over                   over
//	statement         end: outside units each is on its own          over
//	over              anything                                       over
type Holder uint8

// The holders. The zero value is none of them.
const (
	impossible Holder = iota
	Nobody
	Statement // runs
	Reader    // has rows open
	Ender     // ends the session, or a block of it
	Deserter  // a statement that has to end the session when it returns
	Over
)

// Act is what somebody does with a session.
type Act uint8

// The acts.
const (
	Take Act = iota
	Hold
	Resume
	Leave
	Seize
	Abandon
	End
)

// moves is the table above.
var moves = [...][End + 1]Holder{
	Nobody:    {Take: Statement, Seize: Ender},
	Statement: {Hold: Reader, Leave: Nobody, Abandon: Deserter, End: Over},
	Reader:    {Resume: Statement, Seize: Ender},
	Ender:     {Leave: Nobody, End: Over},
	Deserter:  {End: Over},
	Over:      {Take: Over, Hold: Over, Resume: Over, Leave: Over, Seize: Over, Abandon: Over, End: Over},
}

// Move does the act. What the table does not have must not happen, and changes
// nothing.
func (h *Holder) Move(a Act) {
	to := moves[*h][a]
	if to == impossible {
		invariant.Break(fmt.Sprintf("the holder of a session moved from %d by %d", *h, a))
		return
	}
	*h = to
}
