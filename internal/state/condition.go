// Package state has the state machines of a transaction, each with its table.
package state

import (
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// Condition says whether a transaction can be committed, and why it cannot.
//
//	from             by                                                  to
//	sound            a failed statement, as its Fate says                aborted, undone, lost
//	sound, aborted   doom: the core lets only a rollback through         doomed
//	aborted          a failed statement                                  undone, lost
//	aborted          a savepoint gone back to                            sound
//	aborted          giving up: no savepoint is left to go back to       doomed
//	doomed           a failed statement                                  undone, lost
//	doomed           the undoing of a block that contains what doomed it sound
//	undone           a lost connection                                   lost
//	any              a new transaction                                   sound
//
// The zero value is a sound one.
type Condition struct {
	Kind  Kind
	Why   error // it can only be undone; nil where it is sound
	depth int   // doomed: how many blocks were open when that was decided
}

// Kind is a state of a [Condition].
type Kind uint8

// The kinds, in the order in which they get worse.
const (
	Sound   Kind = iota
	Aborted      // the server refuses all but a rollback, whole or to a savepoint
	Doomed       // the server would go on
	Undone       // the server has ended it, and the connection is fine
	Lost         // with the connection
)

// Fail notes what a statement's failure did.
func (c *Condition) Fail(fate driver.Fate, err error) {
	to := Sound
	switch fate {
	case driver.Intact:
		return
	case driver.Aborted:
		to = Aborted
	case driver.Undone:
		to = Undone
	case driver.Lost:
		to = Lost
	}
	if c.Why == nil {
		c.Why = err
	}
	c.Kind = max(c.Kind, to)
}

// Doom lets nothing but a rollback through, though the server would: of all, or of
// a block that is open now, of which there are depth.
func (c *Condition) Doom(err error, depth int) {
	switch {
	case c.Kind <= Aborted:
		*c = Condition{Doomed, errs.Joined(err, c.Why), depth}
	case c.Kind == Doomed:
		c.depth = min(c.depth, depth) // both have to be undone
	}
}

// GiveUp dooms an aborted transaction, in which nobody is to go back to a savepoint.
func (c *Condition) GiveUp() {
	if c.Kind == Aborted {
		c.Kind, c.depth = Doomed, 0
	}
}

// Lift notes that an aborted transaction is so no more.
func (c *Condition) Lift() {
	if c.Kind == Aborted {
		*c = Condition{}
	}
}

// BlockUndone notes that the block at the depth was undone, and all in it.
func (c *Condition) BlockUndone(depth int) {
	if c.Kind == Doomed && c.depth >= depth {
		*c = Condition{}
	}
}

// Runs reports whether a statement may be sent: an aborted transaction takes the
// one that goes back to a savepoint.
func (c *Condition) Runs() bool { return c.Kind <= Aborted }

// Final reports whether nothing short of the end of the transaction makes it sound.
func (c *Condition) Final() bool { return c.Kind >= Undone || c.Kind == Doomed && c.depth == 0 }

// Gone reports whether the transaction no longer exists on the server.
func (c *Condition) Gone() bool { return c.Kind >= Undone }
