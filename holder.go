package dbscope

import (
	"fmt"

	"github.com/dbscope/dbscope/internal/invariant"
)

// holder says who has a session's connection to itself.
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
type holder uint8

const (
	impossible holder = iota
	nobody
	statement // runs
	reader    // has rows open
	ender     // ends the session, or a block of it
	deserter  // a statement that has to end the session when it returns
	over
)

// act is what somebody does with a session.
type act uint8

const (
	take act = iota
	hold
	resume
	leave
	seize
	abandon
	end
)

// moves is the table above.
var moves = [...][end + 1]holder{
	nobody:    {take: statement, seize: ender},
	statement: {hold: reader, leave: nobody, abandon: deserter, end: over},
	reader:    {resume: statement, seize: ender},
	ender:     {leave: nobody, end: over},
	deserter:  {end: over},
	over:      {take: over, hold: over, resume: over, leave: over, seize: over, abandon: over, end: over},
}

// move does the act. What the table does not have must not happen, and changes
// nothing.
func (h *holder) move(a act) {
	to := moves[*h][a]
	if to == impossible {
		invariant.Break(fmt.Sprintf("the holder of a session moved from %d by %d", *h, a))
		return
	}
	*h = to
}
